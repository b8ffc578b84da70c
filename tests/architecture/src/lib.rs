//! Holds ARCHITECTURE.md's rules about who may link what, one test per rule, in `tests/rules.rs`.
