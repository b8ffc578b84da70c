//! Pipeline definitions: as authored, as resolved, as planned.

pub mod plan;
