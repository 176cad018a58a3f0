//! The pickle of a state dict, in an archive without checksums.
//!
//! The input: how many storages there are, the bytes of each divided by four, the pickle.
#![no_main]

use aim_web_fuzz::checkpoint;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    let _watch = aim_web_fuzz::time::watch();
    let Some((&count, rest)) = data.split_first() else {
        return Corpus::Reject;
    };
    let Some((sizes, pickle)) = rest.split_at_checked(count.into()) else {
        return Corpus::Reject;
    };
    let mut archive = Archive::default();
    archive.add("model/data.pkl", pickle);
    for (key, &size) in sizes.iter().enumerate() {
        archive.add(
            &format!("model/data/{key}"),
            &[0x3c; 4 * 255][..4 * usize::from(size)],
        );
    }
    checkpoint::run(&archive.finish(), 64);
    Corpus::Keep
});

/// A zip archive that is being written.
#[derive(Default)]
struct Archive {
    file: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

impl Archive {
    fn add(&mut self, name: &str, data: &[u8]) {
        let start = self.file.len() as u32;
        let mut common = vec![0; 12];
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        // The version, before that the signature; then flags, method, time, checksum.
        self.file.extend(b"PK\x03\x04\0\0");
        self.file.extend(&common);
        self.file.extend(name.as_bytes());
        self.file.extend(data);
        self.directory.extend(b"PK\x01\x02\0\0\0\0");
        self.directory.extend(&common);
        self.directory.extend([0; 10]);
        self.directory.extend(start.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.count += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let start = self.file.len() as u32;
        self.file.extend(&self.directory);
        self.file.extend(b"PK\x05\x06\0\0\0\0");
        self.file.extend(self.count.to_le_bytes());
        self.file.extend(self.count.to_le_bytes());
        self.file
            .extend((self.directory.len() as u32).to_le_bytes());
        self.file.extend(start.to_le_bytes());
        self.file.extend([0; 2]);
        self.file
    }
}
