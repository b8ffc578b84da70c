//! `seal@1`: encrypts a model, signs it, and hands its keys to the key manager it appraised.

mod job;
mod layers;
mod model_folder;
mod reference;

pub use job::{Bytes, Input, Output, OutputPolicy, Plan, Seal, Sealed, Tensors};
pub use layers::LayersError;
pub use model_folder::{ModelFolder, ModelFolderError};
pub use reference::{ReferenceError, ReferenceHead};
