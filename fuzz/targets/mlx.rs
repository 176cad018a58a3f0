//! A checkpoint in MLX's layout, onto the CPU.
//!
//! The input: what precision is asked for, the file.
#![no_main]

use std::io::Cursor;

use aim_web::config::Config;
use aim_web::device::Device;
use aim_web::precision::Precision;
use aim_web::quant::Scheme;
use aim_web::weights::{LocalModel, open_reader};
use aim_web_fuzz::error::checked;
use aim_web_fuzz::model;
use libfuzzer_sys::{Corpus, fuzz_target};
use pollster::block_on;

fuzz_target!(|data: &[u8]| -> Corpus {
    let _watch = aim_web_fuzz::time::watch();
    let Some((&wanted, file)) = data.split_first() else {
        return Corpus::Reject;
    };
    let precisions = [
        Precision::Auto,
        Precision::Fp32,
        Precision::Q8,
        Precision::Q4,
    ];
    let precision = precisions[usize::from(wanted) % precisions.len()];
    let bits = if wanted & 0x80 == 0 { 4 } else { 8 };
    let config = Config {
        embed_dim: 32,
        num_classes: 3,
        quantization: Scheme::new(bits, 32).ok(),
        ..model::config()
    };
    if let Some(file) = checked(open_reader(Cursor::new(file.to_vec()), "file")) {
        let model = LocalModel::new(vec![file], config, None);
        let engine = checked(block_on(model.load(&Device::Cpu, precision)));
        assert!(engine.is_none_or(|engine| engine.precision() != Precision::Auto));
    }
    Corpus::Keep
});
