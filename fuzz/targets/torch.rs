//! What `torch.save` writes: the archive's end, its directory, its records.
#![no_main]

use aim_web_fuzz::checkpoint;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    let _watch = aim_web_fuzz::time::watch();
    let Some((&piece, file)) = data.split_first() else {
        return Corpus::Reject;
    };
    if !file.starts_with(b"PK\x03\x04") {
        return Corpus::Reject;
    }
    checkpoint::run(file, usize::from(piece) + 1);
    Corpus::Keep
});
