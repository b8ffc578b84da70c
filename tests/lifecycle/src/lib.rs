//! What becomes of a published version: rotation and erasure, against a real key manager.
