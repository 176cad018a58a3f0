//! Models that ask for more memory than there is: an error before anything is taken.

use aim_web::ErrorKind;
use aim_web::config::{Config, Family};
use aim_web::device::Device;
use aim_web::engine::self_check;
use aim_web::precision::Precision;
use pollster::block_on;

fn refused(config: &Config, precision: Precision) -> Option<String> {
    let blocks = config.blocks_to_run();
    let error = block_on(self_check(config, blocks, precision, &Device::Cpu)).err()?;
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    let message = error.to_string();
    assert!(message.starts_with("out of memory: "), "{message}");
    Some(message)
}

#[test]
fn sixteen_million_tokens_are_refused() {
    let mut config = Family::Aim600M.config();
    config.img_size = [4096, 4096];
    config.patch_size = [1, 1];
    let message = refused(&config, Precision::Fp32).unwrap();
    assert!(
        message.contains("4096x4096") && message.contains("1x1"),
        "{message}"
    );
    // The model itself is one that every machine has room for, and its attention takes no table of all pairs.
    let config = Config {
        num_blocks: 1,
        probe_layers: vec![0],
        img_size: [896, 896],
        ..Family::Aim600M.config()
    };
    assert_eq!(refused(&config, Precision::Q4), None);
}

#[test]
fn weights_that_do_not_fit_are_refused_with_fewer_bits_named() {
    let mut config = Family::Aim7B.config();
    config.embed_dim = 1 << 14;
    config.num_blocks = 512;
    config.probe_layers = vec![511];
    let message = refused(&config, Precision::Fp32).unwrap();
    assert!(
        message.contains("fp32") && message.contains("q4"),
        "{message}"
    );
}
