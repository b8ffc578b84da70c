//! sealift

fn main() {}
