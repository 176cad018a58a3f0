//! The device asked for, and the model on it.

use aim_web::Result;
use aim_web::device::{Device, gpu};
use aim_web::engine::{Engine, HostOutput, HostTensor, fetch};
use aim_web::weights::remote::Event;
use futures_util::future::{Either, select};
use pollster::block_on;

use crate::args::{self, DeviceChoice};
use crate::model::{Model, Source};
use crate::remote::Progress;

/// Loads a model with its first `blocks` blocks on the device that the options name.
pub fn load(model: Model, blocks: usize, args: &args::Model) -> Result<(Box<dyn Engine>, Device)> {
    let config = model.config;
    let source = match model.source {
        Source::Local(mut local) => {
            local.config = config;
            // Before a device starts: a broken checkpoint is told at once.
            local.locate()?;
            Source::Local(local)
        }
        Source::Remote(mut remote) => {
            remote.config = config;
            Source::Remote(remote)
        }
    };
    let device = match args.device {
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Gpu => Device::Gpu(block_on(gpu::open(gpu::Adapters::Any))?),
        DeviceChoice::Auto => {
            block_on(gpu::open(gpu::Adapters::Hardware)).map_or(Device::Cpu, Device::Gpu)
        }
    };
    let engine = match source {
        Source::Local(local) => local.load_blocks(blocks, &device, args.dtype.into())?,
        Source::Remote(remote) => {
            let progress = Progress::new();
            let report = |event: Event| progress.show(&event);
            let engine = wait(
                &device,
                fetch(*remote, blocks, args.dtype.into(), &device, &report),
            );
            progress.end();
            engine?
        }
    };
    Ok((engine, device))
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

/// Waits for a result, or for the device to be lost: a read that is pending then may never end.
pub fn wait<T>(device: &Device, result: impl Future<Output = Result<T>>) -> Result<T> {
    let result = std::pin::pin!(result);
    let lost = std::pin::pin!(device.lost());
    match block_on(select(result, lost)) {
        Either::Left((result, _)) => result,
        Either::Right((error, _)) => Err(error),
    }
}
