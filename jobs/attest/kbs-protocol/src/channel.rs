//! The channel of a session: requests and answers encrypted under a secret that only the attested
//! guest received, in strict order. A cookie or token opens nothing here.
//!
//! Keys are HKDF(secret, `session:c2s`) and HKDF(secret, `session:s2c`); each message is
//! AES-256-GCM with nonce = be96(seq) and associated data
//! `"sealift:v1:call" ‖ 0 ‖ session ‖ 0 ‖ op ‖ be64(seq) ‖ direction`. Both halves are pure state
//! machines.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealift_signed_document::{Digest, SecretBytes, derive_key};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::call::Op;

/// The name of a session: 128 random bits as 32 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(String);

impl SessionId {
    /// Draws a name.
    pub fn random() -> Self {
        Self(hex::encode(SecretBytes::<16>::random().expose()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Encrypted bytes with their tag; written as standard base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBytes(Vec<u8>);

impl Serialize for SealedBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SealedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(de::Error::custom)
    }
}

/// `POST /kbs/v0/sealift/call`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallMessage {
    /// The session.
    pub session: SessionId,
    /// Rises strictly, from 1.
    pub seq: u64,
    /// What is asked.
    pub op: Op,
    /// The encrypted request.
    #[serde(rename = "box")]
    pub sealed: SealedBytes,
}

/// Answer to a [`CallMessage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallAnswer {
    /// The number of the request that it answers.
    pub seq: u64,
    /// The encrypted answer.
    #[serde(rename = "box")]
    pub sealed: SealedBytes,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// Not encrypted under the session's secret, for this place and direction.
    #[error("the message was not made for this place in this session")]
    DoesNotOpen,
    /// A message of before, or number 0.
    #[error("the sequence number does not rise")]
    OutOfOrder,
    /// Two different messages under one number: the session has ended.
    #[error("another message came under a sequence number that was used; the session has ended")]
    OtherBox,
    /// The session had ended before.
    #[error("the session has ended; attest again")]
    Ended,
    /// For another session.
    #[error("the message names another session")]
    OtherSession,
    /// There is nothing to answer, or nothing was asked.
    #[error("no request is waiting for an answer")]
    NothingPending,
    /// All 2^64 numbers are used.
    #[error("the session has no sequence numbers left; attest again")]
    Exhausted,
}

struct Keys {
    session: SessionId,
    to_server: LessSafeKey,
    to_client: LessSafeKey,
}

#[derive(Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

impl Keys {
    fn new(session: SessionId, secret: &SecretBytes<32>) -> Self {
        let key = |purpose| {
            let key = derive_key(secret.expose(), purpose, &[]);
            LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM, key.expose())
                    .expect("AES-256 takes every key of 32 bytes"),
            )
        };
        Self {
            session,
            to_server: key("session:c2s"),
            to_client: key("session:s2c"),
        }
    }

    fn key(&self, direction: Direction) -> &LessSafeKey {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn aad(&self, op: Op, seq: u64, direction: Direction) -> Vec<u8> {
        let mut aad = b"sealift:v1:call\0".to_vec();
        aad.extend_from_slice(self.session.0.as_bytes());
        aad.push(0);
        aad.extend_from_slice(op.name().as_bytes());
        aad.extend_from_slice(&seq.to_be_bytes());
        aad.extend_from_slice(match direction {
            Direction::ToServer => b"c2s",
            Direction::ToClient => b"s2c",
        });
        aad
    }

    fn seal(&self, op: Op, seq: u64, direction: Direction, plain: &[u8]) -> SealedBytes {
        let mut bytes = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        bytes.extend_from_slice(plain);
        let aad = Aad::from(self.aad(op, seq, direction));
        self.key(direction)
            .seal_in_place_append_tag(nonce(seq), aad, &mut bytes)
            .expect("messages are far below the 64 GiB that GCM encrypts at once");
        SealedBytes(bytes)
    }

    fn open(
        &self,
        op: Op,
        seq: u64,
        direction: Direction,
        sealed: &SealedBytes,
    ) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        let mut bytes = Zeroizing::new(sealed.0.clone());
        let aad = Aad::from(self.aad(op, seq, direction));
        let length = self
            .key(direction)
            .open_in_place(nonce(seq), aad, &mut bytes)
            .map_err(|_| ChannelError::DoesNotOpen)?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// be96(seq): each number is used once per key, so no nonce repeats.
fn nonce(seq: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&seq.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// The key manager's half.
pub struct ServerChannel {
    keys: Keys,
    state: ServerState,
}

enum ServerState {
    /// Everything up to the number is answered; the last answer is kept.
    Answered(u64, Option<(Digest, CallAnswer)>),
    /// A request was taken and not answered yet.
    Pending {
        seq: u64,
        op: Op,
        message: Digest,
    },
    Ended,
}

/// What a message turned out to be.
pub enum Received {
    /// A request that is to be worked on.
    ///
    /// The same one may come again if its answer was never made: working on it must be idempotent.
    New(Zeroizing<Vec<u8>>),
    /// A repetition of the last request; its answer is repeated.
    Repeated(CallAnswer),
}

impl ServerChannel {
    /// The channel of a new session.
    pub fn new(session: SessionId, secret: &SecretBytes<32>) -> Self {
        Self {
            keys: Keys::new(session, secret),
            state: ServerState::Answered(0, None),
        }
    }

    /// Takes a message.
    pub fn receive(&mut self, message: &CallMessage) -> Result<Received, ChannelError> {
        if message.session != self.keys.session {
            return Err(ChannelError::OtherSession);
        }
        let digest = message_digest(message);
        match &self.state {
            ServerState::Ended => return Err(ChannelError::Ended),
            ServerState::Answered(seq, Some((last, answer))) if message.seq == *seq => {
                if *last == digest {
                    return Ok(Received::Repeated(answer.clone()));
                }
                self.state = ServerState::Ended;
                return Err(ChannelError::OtherBox);
            }
            ServerState::Pending {
                seq, message: last, ..
            } if message.seq == *seq => {
                if *last != digest {
                    self.state = ServerState::Ended;
                    return Err(ChannelError::OtherBox);
                }
            }
            ServerState::Answered(seq, _) | ServerState::Pending { seq, .. } => {
                if message.seq <= *seq {
                    return Err(ChannelError::OutOfOrder);
                }
            }
        }
        let (op, seq) = (message.op, message.seq);
        let plain = self
            .keys
            .open(op, seq, Direction::ToServer, &message.sealed)?;
        self.state = ServerState::Pending {
            seq,
            op,
            message: digest,
        };
        Ok(Received::New(plain))
    }

    /// Answers the request that was received last, once.
    pub fn answer(&mut self, plain: &[u8]) -> Result<CallAnswer, ChannelError> {
        let ServerState::Pending { seq, op, message } = self.state else {
            return Err(ChannelError::NothingPending);
        };
        let answer = CallAnswer {
            seq,
            sealed: self.keys.seal(op, seq, Direction::ToClient, plain),
        };
        self.state = ServerState::Answered(seq, Some((message, answer.clone())));
        Ok(answer)
    }

    /// Ends the session; every later message is refused.
    pub fn end(&mut self) {
        self.state = ServerState::Ended;
    }

    /// Whether the session has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, ServerState::Ended)
    }
}

/// What "the same box" means: also the same operation.
fn message_digest(message: &CallMessage) -> Digest {
    let mut bytes = message.op.name().as_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(&message.sealed.0);
    Digest::of(&bytes)
}

/// The guest's half.
pub struct ClientChannel {
    keys: Keys,
    seq: u64,
    pending: Option<CallMessage>,
}

impl ClientChannel {
    /// The channel of a session that was granted.
    pub fn new(session: SessionId, secret: &SecretBytes<32>) -> Self {
        Self {
            keys: Keys::new(session, secret),
            seq: 0,
            pending: None,
        }
    }

    /// Makes the next request. It may be sent again until its answer was opened.
    pub fn request(&mut self, op: Op, plain: &[u8]) -> Result<CallMessage, ChannelError> {
        self.seq = self.seq.checked_add(1).ok_or(ChannelError::Exhausted)?;
        let sealed = self.keys.seal(op, self.seq, Direction::ToServer, plain);
        let session = self.keys.session.clone();
        let message = CallMessage {
            session,
            seq: self.seq,
            op,
            sealed,
        };
        self.pending = Some(message.clone());
        Ok(message)
    }

    /// Opens the answer to the last request.
    pub fn open(&mut self, answer: &CallAnswer) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        let pending = self.pending.as_ref().ok_or(ChannelError::NothingPending)?;
        if answer.seq != pending.seq {
            return Err(ChannelError::OutOfOrder);
        }
        let plain = self
            .keys
            .open(pending.op, answer.seq, Direction::ToClient, &answer.sealed)?;
        self.pending = None;
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair() -> (ClientChannel, ServerChannel) {
        let (session, secret) = (SessionId::random(), SecretBytes::random());
        (
            ClientChannel::new(session.clone(), &secret),
            ServerChannel::new(session, &secret),
        )
    }

    fn taken(server: &mut ServerChannel, message: &CallMessage) -> Vec<u8> {
        match server.receive(message).unwrap() {
            Received::New(plain) => plain.to_vec(),
            Received::Repeated(_) => panic!("a new message was taken for a repetition"),
        }
    }

    fn refusal(server: &mut ServerChannel, message: &CallMessage) -> ChannelError {
        server.receive(message).err().unwrap()
    }

    #[test]
    fn a_request_and_its_answer_pass() {
        let (mut client, mut server) = pair();
        let message = client.request(Op::Unwrap, b"question").unwrap();
        assert_eq!(taken(&mut server, &message), b"question");
        let answer = server.answer(b"answer").unwrap();
        assert_eq!(client.open(&answer).unwrap().as_slice(), b"answer");
    }

    #[test]
    fn the_associated_data_has_the_documented_bytes() {
        let keys = Keys::new(SessionId("ab".into()), &SecretBytes::random());
        assert_eq!(
            keys.aad(Op::Unwrap, 1, Direction::ToServer),
            b"sealift:v1:call\0ab\0unwrap\0\0\0\0\0\0\0\x01c2s"
        );
    }

    #[test]
    fn a_repeated_request_gets_the_stored_answer() {
        let (mut client, mut server) = pair();
        let message = client.request(Op::Batch, b"q").unwrap();
        taken(&mut server, &message);
        let answer = server.answer(b"a").unwrap();
        let Ok(Received::Repeated(again)) = server.receive(&message) else {
            panic!("the repetition was not recognised")
        };
        assert_eq!(again, answer);
    }

    #[test]
    fn a_request_whose_answer_was_never_made_is_worked_on_again() {
        let (mut client, mut server) = pair();
        let message = client.request(Op::Batch, b"q").unwrap();
        taken(&mut server, &message);
        assert_eq!(taken(&mut server, &message), b"q");
    }

    #[test]
    fn another_box_under_a_used_number_ends_the_session() {
        for answered in [true, false] {
            let (mut client, mut server) = pair();
            let first = client.request(Op::Batch, b"q").unwrap();
            taken(&mut server, &first);
            if answered {
                server.answer(b"a").unwrap();
            }
            let mut other = first.clone();
            other.sealed.0[0] ^= 1;
            assert_eq!(refusal(&mut server, &other), ChannelError::OtherBox);
            let next = client.request(Op::Batch, b"q").unwrap();
            assert_eq!(refusal(&mut server, &next), ChannelError::Ended);
        }
    }

    #[test]
    fn the_same_box_under_another_operation_ends_the_session() {
        let (mut client, mut server) = pair();
        let message = client.request(Op::Batch, b"q").unwrap();
        taken(&mut server, &message);
        let other = CallMessage {
            op: Op::Commit,
            ..message
        };
        assert_eq!(refusal(&mut server, &other), ChannelError::OtherBox);
    }

    #[test]
    fn a_replayed_older_request_is_refused_and_the_session_lives_on() {
        let (mut client, mut server) = pair();
        let first = client.request(Op::Batch, b"1").unwrap();
        taken(&mut server, &first);
        server.answer(b"a").unwrap();
        let second = client.request(Op::Batch, b"2").unwrap();
        taken(&mut server, &second);
        server.answer(b"b").unwrap();
        assert_eq!(refusal(&mut server, &first), ChannelError::OutOfOrder);
        let third = client.request(Op::Batch, b"3").unwrap();
        assert_eq!(taken(&mut server, &third), b"3");
    }

    #[test]
    fn a_message_of_another_session_or_secret_is_refused() {
        let (mut client, mut server) = pair();
        let (mut stranger, _) = pair();
        let foreign = stranger.request(Op::Batch, b"q").unwrap();
        assert_eq!(refusal(&mut server, &foreign), ChannelError::OtherSession);
        let message = client.request(Op::Batch, b"q").unwrap();
        let forged = CallMessage {
            sealed: foreign.sealed,
            ..message.clone()
        };
        assert_eq!(refusal(&mut server, &forged), ChannelError::DoesNotOpen);
        // What does not open uses no number up.
        assert_eq!(taken(&mut server, &message), b"q");
    }

    #[test]
    fn a_request_cannot_be_reflected_as_its_own_answer() {
        let (mut client, _) = pair();
        let message = client.request(Op::Batch, b"q").unwrap();
        let reflected = CallAnswer {
            seq: message.seq,
            sealed: message.sealed,
        };
        assert_eq!(
            client.open(&reflected).err(),
            Some(ChannelError::DoesNotOpen)
        );
    }

    #[test]
    fn an_answer_to_an_earlier_request_is_refused() {
        let (mut client, mut server) = pair();
        let first = client.request(Op::Batch, b"1").unwrap();
        taken(&mut server, &first);
        let old = server.answer(b"a").unwrap();
        client.open(&old).unwrap();
        client.request(Op::Batch, b"2").unwrap();
        assert_eq!(client.open(&old).err(), Some(ChannelError::OutOfOrder));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Request,
        Deliver(usize),
        Answer,
        Flip(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Request),
            (0..8_usize).prop_map(Step::Deliver),
            Just(Step::Answer),
            (0..8_usize).prop_map(Step::Flip),
        ]
    }

    proptest! {
        /// However messages are delayed, repeated, reordered and spoiled: a request is worked on
        /// only while it is the newest, in rising order, and nothing follows an end.
        #[test]
        fn requests_are_worked_on_in_order(steps in prop::collection::vec(step(), 0..60)) {
            let (mut client, mut server) = pair();
            let (mut sent, mut highest) = (Vec::new(), 0);
            for step in steps {
                let ended = server.has_ended();
                let message = match step {
                    Step::Request => {
                        sent.push(client.request(Op::Batch, b"q").unwrap());
                        continue;
                    }
                    Step::Answer => {
                        drop(server.answer(b"a"));
                        continue;
                    }
                    Step::Deliver(index) | Step::Flip(index) if sent.is_empty() => {
                        let _: usize = index;
                        continue;
                    }
                    Step::Deliver(index) => sent[index % sent.len()].clone(),
                    Step::Flip(index) => {
                        let mut message = sent[index % sent.len()].clone();
                        message.sealed.0[0] ^= 1;
                        message
                    }
                };
                match server.receive(&message) {
                    Ok(Received::New(_)) => {
                        prop_assert!(!ended && message.seq >= highest);
                        prop_assert!(sent.contains(&message), "a spoiled message was taken");
                        highest = message.seq;
                    }
                    Ok(Received::Repeated(answer)) => {
                        prop_assert!(!ended && message.seq == highest && answer.seq == highest);
                    }
                    Err(_) => {}
                }
                prop_assert!(!ended || server.has_ended());
            }
        }
    }
}
