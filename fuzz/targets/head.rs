//! A head that somebody taught.
#![no_main]

use aim_web::probe::file::HeadFile;
use aim_web_fuzz::error::checked;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _watch = aim_web_fuzz::time::watch();
    let Some(head) = checked(HeadFile::from_bytes(data)) else {
        return;
    };
    let _ = checked(head.trunk.family());
    // Matrices are written in f16, so what is written is read as it is from then on; what does not fit is refused.
    let written = head.to_bytes().expect("it fits a file");
    if let Some(read) = checked(HeadFile::from_bytes(&written)) {
        assert_eq!(read.config, head.config);
        assert_eq!(read.labels, head.labels);
        assert_eq!(read.trunk, head.trunk);
        assert_eq!(read.to_bytes().expect("it fits a file"), written);
    }
    if let Some(compact) = checked(head.to_compact_bytes()) {
        let _ = checked(HeadFile::from_bytes(&compact));
    }
});
