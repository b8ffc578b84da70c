//! What a confidential KServe does when it starts: PyPI's `kserve-storage` decrypts a folder with the
//! key that a Confidential Data Hub has.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    thread,
};

use crate::stock_tools::python;

/// Has KServe decrypt `folder` in place, with `key` at `resource` (`kbs:///…`).
pub(crate) fn decrypt(folder: &Path, resource: &str, key: &[u8]) -> Output {
    let module = "kserve_storage.confidential.cli";
    Command::new(python())
        .args(["-m", module, "--resource-id", resource])
        .arg("--source-dir")
        .arg(folder)
        .env("CDH_ADDR", data_hub(resource, key))
        .output()
        .unwrap()
}

/// A Confidential Data Hub that has one resource, on a loopback port, until the test ends.
fn data_hub(resource: &str, key: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let path = resource.strip_prefix("kbs:///").unwrap();
    let wanted = format!("GET /cdh/resource/{path} HTTP/1.1");
    let key = key.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request = lines.next().unwrap();
            // The request has no body: it ends with an empty line.
            drop(lines.find(String::is_empty));
            let (status, body): (_, &[u8]) = if request == wanted {
                ("200 OK", &key)
            } else {
                ("404 Not Found", b"")
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    address
}
