//! `model.safetensors.index.json`.
#![no_main]

use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::weights::checkpoint::tensor_info::TensorInfo;
use aim_web::weights::shards::index::Index;
use aim_web_fuzz::error::checked;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _watch = aim_web_fuzz::time::watch();
    let Some(index) = checked(Index::from_json(text)) else {
        return;
    };
    let mut tensors = 0;
    for file in index.files() {
        assert!(!file.contains(['/', '\\']) && !file.starts_with('.'));
        let infos: Vec<TensorInfo> = index
            .tensors_of(file)
            .map(|name| TensorInfo {
                name: name.to_owned(),
                dtype: Dtype::F32,
                shape: Vec::new(),
            })
            .collect();
        tensors += infos.len();
        index
            .check(file, &infos)
            .expect("it is what the index says");
        assert!(checked(index.check(file, &infos[1..])).is_none());
        assert!(
            checked(index.check("other.safetensors", &infos)).is_none()
                || file == "other.safetensors"
        );
    }
    assert_eq!(tensors, index.tensors().count());
});
