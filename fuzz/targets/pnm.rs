//! PPM, PGM and PBM to a model's input.
#![no_main]

use aim_web_fuzz::picture;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    picture::run(data, &[b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"])
});
