//! The header of a safetensors file.
#![no_main]

use aim_web::weights::checkpoint::contents::{self, Access, Parts, Step};
use aim_web::weights::checkpoint::safetensors::Header;
use aim_web_fuzz::error::checked;
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;

fuzz_target!(|data: &[u8]| {
    let _watch = aim_web_fuzz::time::watch();
    let len = data.len() as u64;
    let header = checked(Header::parse(data, len));
    let Some(header) = header else {
        // As it does while the bytes arrive.
        for part in [0, 7, 8, data.len() / 2] {
            let _ = checked(Header::needed(&data[..part.min(data.len())], len));
        }
        return;
    };
    // Whatever that crate refuses is refused.
    let theirs = SafeTensors::deserialize(data).expect("it is refused there");
    assert_eq!(theirs.len(), header.tensors().len());
    let needed = Header::needed(&data[..8], len).expect("it was before");
    let again = Header::parse(&data[..needed], len).expect("it was before");
    assert_eq!(again.tensors(), header.tensors());

    let mut end = header.data_start();
    for (index, info) in header.tensors().iter().enumerate() {
        let range = header.range(index).expect("it is a tensor");
        assert_eq!((range.start, range.end - range.start), (end, info.bytes()));
        end = range.end;
        let view = theirs.tensor(&info.name).expect("it is in both");
        assert_eq!(view.shape(), info.shape);
        assert_eq!(view.data(), &data[range.start as usize..range.end as usize]);
    }
    assert_eq!(end, len);

    let mut parts = Parts::new(len);
    parts.insert(0, data.to_vec());
    match contents::read(&parts, Access::Ranges) {
        Ok(Step::Done(contents)) => assert_eq!(contents.tensors(), header.tensors()),
        other => panic!("{other:?}"),
    }
});
