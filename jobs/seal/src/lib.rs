//! sealift-seal
