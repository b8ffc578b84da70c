//! A guest for the tests of the launcher. Its first argument says what it does.
#![expect(
    clippy::print_stdout,
    reason = "what the guest prints is what the test reads"
)]

use std::{
    env,
    error::Error,
    fs,
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
    thread,
};

use sealift_attester::{Attester, SimulatedSpSocket, die_with_launcher};
use sealift_simulated_sp::{Launch, MeasuredExecutable, SimulatedSp};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["report"] => report(),
        ["surroundings"] => surroundings(),
        ["break-protocol"] => break_protocol(),
        ["linger"] => linger(),
        ["launch-a-lingering-guest", folder] => launch_a_lingering_guest(Path::new(folder)),
        _ => Err("unknown argument".into()),
    }
}

/// Prints evidence about itself.
fn report() -> Result<(), Box<dyn Error>> {
    let evidence = SimulatedSpSocket::from_stdin()?.evidence(&[0xA5; 64])?;
    println!("{}", String::from_utf8(evidence.to_kbs_json())?);
    Ok(())
}

/// Prints its environment and what its descriptors are.
fn surroundings() -> Result<(), Box<dyn Error>> {
    println!("variables {}", env::vars_os().count());
    println!("folder {}", env::current_dir()?.display());
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // The descriptor of this very folder is gone when its link is read.
        if let Ok(target) = fs::read_link(&path)
            && !target.starts_with("/proc")
        {
            println!("descriptor {name} {}", target.display());
        }
    }
    Ok(())
}

/// Sends a request of another protocol and prints how many bytes come back.
fn break_protocol() -> Result<(), Box<dyn Error>> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.write_all(&[0; sealift_attester::wire::REQUEST_BYTES])?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    println!("{}", answer.len());
    Ok(())
}

/// Lives until its launcher ends.
fn linger() -> Result<(), Box<dyn Error>> {
    die_with_launcher()?;
    println!("ready");
    loop {
        thread::park();
    }
}

/// Is a launcher itself, and lives until it is killed.
fn launch_a_lingering_guest(folder: &Path) -> Result<(), Box<dyn Error>> {
    let executable = MeasuredExecutable::open(&env::current_exe()?)?;
    let _guest = SimulatedSp::open(folder)?.launch(Launch {
        executable: &executable,
        args: vec!["linger".into()],
        init_data: b"",
        stdout: Stdio::inherit(),
        stderr: Stdio::inherit(),
    })?;
    loop {
        thread::park();
    }
}
