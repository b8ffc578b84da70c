//! Ending with the launcher, whatever ends it.

use std::{io, os::fd::AsFd, process, thread};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Signal, set_parent_process_death_signal},
};

use crate::AttesterError;

/// Exit code of a process whose launcher is gone: 128 + SIGHUP, as a shell reports it.
pub const EXIT_LAUNCHER_GONE: i32 = 129;

/// Ends this process when its launcher is gone: by a signal from the kernel, and by a thread that
/// sees the other end of standard input close.
///
/// The signal alone would miss a launcher that died before it was asked for; the socket alone
/// would wait for a launcher's other children that inherited it.
pub fn die_with_launcher() -> Result<(), AttesterError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| AttesterError::Watch(errno.into()))?;
    thread::Builder::new()
        .name("launcher-watch".to_owned())
        .spawn(exit_when_launcher_closes)
        .map_err(AttesterError::Watch)?;
    Ok(())
}

#[expect(
    clippy::exit,
    reason = "nothing is left to unwind to: the process must not outlive its launcher"
)]
fn exit_when_launcher_closes() {
    let stdin = io::stdin();
    loop {
        let mut watched = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::RDHUP)];
        match poll(&mut watched, None) {
            Err(Errno::INTR) => {}
            // An error of the descriptor itself also means that nobody is at the other end.
            Ok(_) | Err(_) => process::exit(EXIT_LAUNCHER_GONE),
        }
    }
}
