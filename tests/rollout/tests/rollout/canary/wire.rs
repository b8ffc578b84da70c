//! Every frame on the loopback interface, as a packet socket sees it.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    thread::{self, JoinHandle},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with,
        sockopt::set_socket_recv_buffer_size_force,
    },
    pipe::pipe,
};

/// Frames that wait while the capturing thread has no processor.
const BUFFER_BYTES: usize = 256 << 20;
/// Longest frame: loopback's largest packet and its header.
const FRAME_BYTES: usize = 1 << 17;

/// A capture that goes on until it is stopped.
pub(super) struct Capture {
    stop: OwnedFd,
    thread: JoinHandle<Vec<u8>>,
}

impl Capture {
    /// Captures from now on; frames that cross before this returns may be missing.
    pub(super) fn start() -> Self {
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            Some(eth::ALL),
        );
        let socket = socket.unwrap_or_else(|error| {
            panic!("cannot capture what crosses the network ({error}); run the tests as root")
        });
        set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).unwrap();
        let (stopped, stop) = pipe().unwrap();
        Self {
            stop,
            thread: thread::spawn(move || capture(&socket, &stopped)),
        }
    }

    /// Everything that crossed since the start, one frame after the other.
    pub(super) fn stop(self) -> Vec<u8> {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

fn capture(socket: &OwnedFd, stopped: &OwnedFd) -> Vec<u8> {
    let (mut frames, mut frame) = (Vec::new(), vec![0_u8; FRAME_BYTES]);
    loop {
        match recv(socket, frame.as_mut_slice(), RecvFlags::empty()) {
            Ok((length, _)) => frames.extend_from_slice(&frame[..length]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut waited = [
                    PollFd::new(socket, PollFlags::IN),
                    PollFd::new(stopped, PollFlags::IN),
                ];
                poll(&mut waited, None).unwrap();
                let (more, ended) = (
                    !waited[0].revents().is_empty(),
                    !waited[1].revents().is_empty(),
                );
                if ended && !more {
                    assert_eq!(dropped(socket), 0, "the capture has holes");
                    return frames;
                }
            }
            Err(error) => panic!("cannot capture: {error}"),
        }
    }
}

/// Frames that found no room since the socket was opened.
#[expect(unsafe_code, reason = "no safe wrapper has this socket option")]
fn dropped(socket: &OwnedFd) -> u32 {
    let mut statistics = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut length = size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: both pointers are to values that live here, and `length` is the first one's size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    statistics.tp_drops
}

/// Sends `bytes` in the clear from this process to itself.
pub(super) fn send_over_loopback(bytes: &[u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    sender.write_all(bytes).unwrap();
    drop(sender);
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).unwrap();
    assert_eq!(received, bytes);
}
