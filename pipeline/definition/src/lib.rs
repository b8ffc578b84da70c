#![doc = include_str!("../README.md")]

mod arguments;
mod authored;
mod code;
mod diagnostic;
mod duration;
mod expression;
mod file;
mod graph;
mod input;
mod kinds;
mod name;
pub mod plan;
mod planning;
mod reader;
mod render;
mod resolved;
mod scalar;
mod schema;
mod scope;
mod source;
mod suggestion;
mod template;
mod yaml;

pub use authored::{Authored, Definition, MAX_JOBS};
pub use code::{Code, Severity};
pub use diagnostic::{Diagnostic, Diagnostics, Label, MAX_DIAGNOSTICS};
pub use file::MAX_FILE_BYTES;
pub use kinds::{Kind, Kinds, KindsError, Zone};
pub use plan::Plan;
pub use planning::{Folders, Given};
pub use resolved::{DeclaredInput, Resolved};
pub use schema::SchemaFault;
pub use yaml::{MAX_DEPTH, MAX_NODES};
