//! Models that ask for more memory than there is: an error before anything is taken.

use aim_web::ErrorKind;
use aim_web::config::{Config, Family};
use aim_web::device::{Device, gpu};
use aim_web::engine::{HostTensor, largest_batch, self_check, weight_format};
use aim_web::precision::Precision;
use aim_web::weights::LocalModel;
use aim_web::weights::synthetic::Synthetic;
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

#[test]
fn a_batch_over_what_a_gpu_has_is_refused_and_the_largest_that_fits_runs() {
    let config = Config {
        img_size: [28, 28],
        embed_dim: 64,
        num_heads: 1,
        num_blocks: 1,
        probe_layers: vec![0],
        num_classes: 10,
        ..Family::Aim600M.config()
    };
    let mut gpu = block_on(gpu::open(gpu::Adapters::Any)).expect("the GPU tests need an adapter");
    let weights = 4 * (64 * 64 * 14 + 10 * 64);
    let at_most = |gpu: &gpu::GpuDevice, precision, wanted| {
        largest_batch(&config, 1, precision, &Device::Gpu(gpu.clone()), wanted)
    };
    gpu.memory = Some(weights / 3 * 2);
    let error = at_most(&gpu, Precision::Fp32, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("in fp16 they fit"), "{error}");
    // Half of the weights' bytes are free when those have come.
    gpu.memory = Some(weights + weights / 2);
    let batch = at_most(&gpu, Precision::Fp32, 64).unwrap();
    assert!((2..64).contains(&batch), "{batch}");

    let device = Device::Gpu(gpu);
    let form = weight_format(&config, 1, Precision::Fp32, &device).unwrap();
    let (weights, config) = Synthetic::new(&config, form, 1).unwrap();
    let model = LocalModel::new(vec![Box::new(weights)], config, None);
    let engine = block_on(model.load(&device, Precision::Fp32)).unwrap();
    assert_eq!(engine.largest_batch(64), batch);
    assert_eq!(engine.largest_batch(1), 1);
    let run = |batch: usize| {
        let images = HostTensor {
            shape: vec![batch, 3, 28, 28],
            values: vec![0.5; batch * 3 * 28 * 28],
        };
        block_on(device.unless_lost(engine.logits_and_features(images, &[])))
    };
    let error = run(batch + 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    let told = format!("up to {batch} of these fit");
    assert!(error.to_string().contains(&told), "{error}");
    // The device goes on.
    assert_eq!(run(batch).unwrap().logits.shape, [batch, 10]);
}
