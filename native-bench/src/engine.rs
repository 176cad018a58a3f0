//! The device asked for, and the model on it.

use aim_web::Result;
use aim_web::config::Config;
use aim_web::cpu::threads;
use aim_web::device::{Device, gpu};
use aim_web::engine::{Engine, HostOutput, HostTensor, fetch, self_check};
use aim_web::precision::Precision;
use aim_web::weights::remote::Event;
use pollster::block_on;

use crate::args::{self, DeviceChoice};
use crate::model::{Model, Source};
use crate::remote::Progress;

/// Loads a model with its first `blocks` blocks on the device that the options name.
pub fn load(model: Model, blocks: usize, args: &args::Model) -> Result<(Box<dyn Engine>, Device)> {
    let config = model.config;
    let source = match model.source {
        Source::Local(mut local) => {
            local.config = config.clone();
            // Before a device starts: a broken checkpoint is told at once.
            local.locate()?;
            Source::Local(local)
        }
        Source::Remote(mut remote) => {
            remote.config = config.clone();
            Source::Remote(remote)
        }
    };
    if let Some(threads) = args.threads {
        threads::start(threads.into())?;
    }
    let precision = args.dtype.into();
    let device = match args.device {
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Gpu => Device::Gpu(block_on(gpu::open(gpu::Adapters::Any))?),
        DeviceChoice::Auto => block_on(real_gpu(&config, blocks, precision)).unwrap_or(Device::Cpu),
    };
    let engine = match source {
        Source::Local(local) => block_on(local.load_blocks(blocks, &device, precision))?,
        Source::Remote(remote) => {
            let progress = Progress::new();
            let report = |event: Event| progress.show(&event);
            let engine = wait(&device, fetch(*remote, blocks, precision, &device, &report));
            progress.end();
            engine?
        }
    };
    Ok((engine, device))
}

/// A GPU that computes rightly.
async fn real_gpu(config: &Config, blocks: usize, precision: Precision) -> Result<Device> {
    let device = Device::Gpu(gpu::open(gpu::Adapters::Hardware).await?);
    self_check(config, blocks, precision, &device).await?;
    Ok(device)
}

/// Logits of a batch and the outputs of some blocks; an error if the device is lost meanwhile.
pub fn run(
    engine: &dyn Engine,
    device: &Device,
    input: HostTensor,
    layers: &[usize],
) -> Result<HostOutput> {
    wait(device, engine.logits_and_features(input, layers))
}

/// Waits for a result, or for the device to be lost.
pub fn wait<T>(device: &Device, result: impl Future<Output = Result<T>>) -> Result<T> {
    block_on(device.unless_lost(result))
}
