//! How many kernels a picture takes on a GPU, counted by `CubeCL`, burn's own among them; and that a frame takes no
//! memory that an earlier one had not. A process of its own, as the log is the process's.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aim_web::config::Config;
use aim_web::device::Device;
use aim_web::device::gpu::{Adapters, open};
use aim_web::engine::{self, Engine, HostTensor};
use aim_web::precision::Precision;
use aim_web::weights::checkpoint::Checkpoint;
use burn_wgpu::WgpuRuntime;
use common::generator::{self, Generated};
use cubecl::Runtime;
use cubecl::config::profiling::ProfilingLogLevel;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use pollster::block_on;

fn config(blocks: usize) -> Config {
    Config {
        img_size: [56, 56],
        patch_size: [14, 14],
        num_channels: 3,
        embed_dim: 128,
        num_blocks: blocks,
        num_heads: 2,
        num_classes: 10,
        probe_layers: vec![blocks - 1],
        quantization: None,
    }
}

fn classify(model: &dyn Engine) {
    let shape = vec![1, 3, 56, 56];
    let values = generator::tensor("dispatches", "input", &shape);
    let images = HostTensor { shape, values };
    block_on(model.logits_and_features(images, &[])).expect("the input fits");
}

/// The kernels of one picture, by name.
fn kernels(log: &Path, model: &dyn Engine) -> BTreeMap<String, usize> {
    classify(model);
    let before = settled(log);
    classify(model);
    let mut counts = BTreeMap::new();
    for line in &settled(log)[before.len()..] {
        *counts.entry(line.clone()).or_default() += 1;
    }
    counts
}

/// The lines of the log once it grows no more: another thread writes it.
fn settled(log: &Path) -> Vec<String> {
    let read = || fs::read_to_string(log).unwrap_or_default();
    let start = Instant::now();
    let mut before = read();
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = read();
        if now == before || start.elapsed() > Duration::from_secs(20) {
            return now.lines().map(str::to_owned).collect();
        }
        before = now;
    }
}

#[test]
fn a_block_is_seven_kernels_and_a_frame_takes_no_new_memory() {
    let log = std::env::temp_dir().join(format!("aim-web-kernels-{}.log", std::process::id()));
    let mut own = CubeClRuntimeConfig::default();
    own.profiling.logger.level = ProfilingLogLevel::Minimal;
    own.profiling.logger.file = Some(log.clone());
    CubeClRuntimeConfig::set(own);

    let gpu = block_on(open(Adapters::Any)).expect("the GPU tests need an adapter");
    let client = WgpuRuntime::client(&gpu.device);
    let device = Device::Gpu(gpu);
    let model = |blocks, precision| {
        let config = config(blocks);
        let weights: Box<dyn Checkpoint> = Box::new(Generated::new("dispatches", &config));
        let mut weights = [weights];
        let load = engine::load(&mut weights, config, blocks, precision, &device);
        block_on(load).expect("it loads")
    };
    for precision in [
        Precision::Fp32,
        Precision::Fp16,
        Precision::Q8,
        Precision::Q4,
    ] {
        let [few, many] = [1, 3].map(|blocks| kernels(&log, &*model(blocks, precision)));
        let total = |kernels: &BTreeMap<String, usize>| kernels.values().sum::<usize>();
        assert!(total(&few) > 0, "nothing was counted");
        let more = total(&many) - total(&few);
        assert_eq!(more, 2 * 7, "{precision:?}: {many:#?}");
        // Patches, their layer norm and position, the probe.
        assert!(total(&few) - 7 < 40, "{precision:?}: {few:#?}");
    }

    let model = model(3, Precision::Q8);
    let reserved = || client.memory_usage().expect("it is counted").bytes_reserved;
    for _ in 0..10 {
        classify(&*model);
    }
    let before = reserved();
    for _ in 0..10 {
        classify(&*model);
    }
    assert_eq!(reserved(), before);
    fs::remove_file(log).expect("it was written");
}
