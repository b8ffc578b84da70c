#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealift_sealed_model::hostile::chunk_map(data));
