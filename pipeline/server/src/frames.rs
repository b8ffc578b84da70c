//! Frames over a Unix socket.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use sealift_run::message::{FrameError, MAX_FRAME_BYTES, decode, encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// One side of a connection.
pub(crate) struct Frames(Framed<UnixStream, LengthDelimitedCodec>);

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    #[error("a frame could not be used")]
    Frame(#[from] FrameError),
}

impl Frames {
    pub(crate) fn new(stream: UnixStream) -> Self {
        let codec = LengthDelimitedCodec::builder()
            .max_frame_length(MAX_FRAME_BYTES)
            .new_codec();
        Self(Framed::new(stream, codec))
    }

    pub(crate) async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), ConnectionError> {
        Ok(self.0.send(Bytes::from(encode(message)?)).await?)
    }

    /// The next message; none if the other side has ended.
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ConnectionError> {
        match self.0.next().await {
            Some(frame) => Ok(Some(decode(&frame?)?)),
            None => Ok(None),
        }
    }
}
