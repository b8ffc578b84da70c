//! The client of the simulated AMD-SP: the socket that the launcher left as standard input.

use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sealift_evidence::{MAX_KBS_JSON_BYTES, SnpEvidence};

use crate::{Attester, AttesterError};

/// The messages on the socket, for both ends.
///
/// A request is [`REQUEST_BYTES`](wire::REQUEST_BYTES) long: [`MAGIC`](wire::MAGIC), then the
/// `report_data`. An answer is a big-endian u32 length and that many bytes of KBS `snp` evidence
/// JSON. A request can hold nothing but `report_data`, so a guest has no way to ask for another
/// measurement or host data.
pub mod wire {
    /// Starts every request; the digit is the version of these messages.
    pub const MAGIC: [u8; 8] = *b"SEALSP-1";

    /// Length of a request.
    pub const REQUEST_BYTES: usize = MAGIC.len() + 64;

    /// Puts `report_data` into a request.
    pub fn request(report_data: &[u8; 64]) -> [u8; REQUEST_BYTES] {
        let mut request = [0; REQUEST_BYTES];
        request[..MAGIC.len()].copy_from_slice(&MAGIC);
        request[MAGIC.len()..].copy_from_slice(report_data);
        request
    }

    /// Takes `report_data` out of a request; `None` when it is of another protocol.
    pub fn report_data(request: &[u8; REQUEST_BYTES]) -> Option<[u8; 64]> {
        let mut report_data = [0; 64];
        report_data.copy_from_slice(request.strip_prefix(&MAGIC)?);
        Some(report_data)
    }
}

/// How long the launcher may take to sign; it signs in memory, so more means that it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The attester of a process under the simulated AMD-SP.
pub struct SimulatedSpSocket(Mutex<UnixStream>);

impl SimulatedSpSocket {
    /// Takes the socket that the launcher left as standard input.
    pub fn from_stdin() -> Result<Self, AttesterError> {
        let stdin = io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(AttesterError::NoLauncher)?;
        let stream = UnixStream::from(stdin);
        // Fails on everything that is not a connected socket.
        stream.peer_addr().map_err(AttesterError::NoLauncher)?;
        Self::from_stream(stream)
    }

    /// Takes one end of a socket pair.
    pub fn from_stream(stream: UnixStream) -> Result<Self, AttesterError> {
        stream
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .map_err(AttesterError::Socket)?;
        stream
            .set_write_timeout(Some(ANSWER_TIMEOUT))
            .map_err(AttesterError::Socket)?;
        Ok(Self(Mutex::new(stream)))
    }
}

impl Attester for SimulatedSpSocket {
    fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = exchange(&mut stream, report_data)?;
        let evidence = SnpEvidence::from_kbs_json(&answer).map_err(AttesterError::Evidence)?;
        if evidence.report().fields().report_data != *report_data {
            return Err(AttesterError::AnotherReport);
        }
        Ok(evidence)
    }
}

fn exchange(stream: &mut UnixStream, report_data: &[u8; 64]) -> Result<Vec<u8>, AttesterError> {
    stream
        .write_all(&wire::request(report_data))
        .map_err(AttesterError::Socket)?;
    let mut length = [0; 4];
    stream
        .read_exact(&mut length)
        .map_err(AttesterError::Socket)?;
    let bytes = u32::from_be_bytes(length) as usize;
    if bytes > MAX_KBS_JSON_BYTES {
        return Err(AttesterError::AnswerTooLarge { bytes });
    }
    let mut answer = vec![0; bytes];
    stream
        .read_exact(&mut answer)
        .map_err(AttesterError::Socket)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Answers the first request with `answer`, whatever it asks.
    fn launcher_that_answers(answer: Vec<u8>) -> SimulatedSpSocket {
        let (guest, mut launcher) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut request = [0; wire::REQUEST_BYTES];
            launcher.read_exact(&mut request).unwrap();
            launcher.write_all(&answer).unwrap();
        });
        SimulatedSpSocket::from_stream(guest).unwrap()
    }

    #[test]
    fn an_answer_that_is_no_evidence_is_refused() {
        let attester = launcher_that_answers(b"\0\0\0\x02{}".to_vec());
        assert!(matches!(
            attester.evidence(&[1; 64]),
            Err(AttesterError::Evidence(_))
        ));
    }

    #[test]
    fn an_oversized_answer_is_not_read() {
        let attester = launcher_that_answers(u32::MAX.to_be_bytes().to_vec());
        assert!(matches!(
            attester.evidence(&[1; 64]),
            Err(AttesterError::AnswerTooLarge { bytes }) if bytes == u32::MAX as usize
        ));
    }

    #[test]
    fn a_closed_socket_is_an_error() {
        let attester = launcher_that_answers(b"\0\0".to_vec());
        assert!(matches!(
            attester.evidence(&[1; 64]),
            Err(AttesterError::Socket(_))
        ));
    }

    #[test]
    fn a_request_of_another_protocol_holds_no_report_data() {
        let mut request = wire::request(&[7; 64]);
        assert_eq!(wire::report_data(&request), Some([7; 64]));
        request[7] ^= 1;
        assert_eq!(wire::report_data(&request), None);
    }
}
