//! WebP to a model's input.
#![no_main]

use aim_web_fuzz::picture;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus { picture::run(data, &[b"RIFF"]) });
