//! The device asked for, and the model on it.

use std::num::NonZero;

use aim_web::Result;
use aim_web::config::Config;
use aim_web::cpu::threads;
use aim_web::device::{Device, gpu};
use aim_web::engine::{
    Engine, HostOutput, HostTensor, fetch, fetch_with_fingerprint, load_with_fingerprint,
    self_check,
};
use aim_web::precision::Precision;
use aim_web::weights::remote::Event;
use aim_web::weights::shards::manifest::to_hex;
use pollster::block_on;
use sha2::{Digest as _, Sha256};

use crate::args::{self, DeviceChoice};
use crate::model::{Model, Source};
use crate::remote::Progress;
use crate::world::World;

/// A model on its device.
pub struct Loaded {
    pub engine: Box<dyn Engine>,
    pub device: Device,
    /// Over its configuration and its weights, as they are stored.
    pub sha256: String,
    /// How many threads of the CPU this process is to take.
    pub threads: usize,
}

/// Loads a model with its first `blocks` blocks on the device that the options name.
pub fn load(model: Model, blocks: usize, args: &args::Model) -> Result<(Box<dyn Engine>, Device)> {
    let (model, device) = begin(model, blocks, args, None)?;
    let precision = args.dtype.into();
    let head = model.head;
    let engine = match model.source {
        Source::Local(local) => block_on(local.load_blocks(blocks, &device, precision))?,
        Source::Remote(remote) => {
            let progress = Progress::new();
            let report = |event: Event| progress.show(&event);
            let engine = wait(&device, fetch(*remote, blocks, precision, &device, &report));
            progress.end();
            engine?
        }
    };
    match head {
        Some(head) => Ok((head.on(&*engine)?, device)),
        None => Ok((engine, device)),
    }
}

/// As [`load`], for one of several processes: on its own GPU, if there are several, with its share of the cores. Also
/// says which weights these are.
pub fn load_in_world(
    model: Model,
    blocks: usize,
    args: &args::Model,
    world: &World,
) -> Result<Loaded> {
    let set = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|count| count.parse().ok())
        .filter(|&count: &usize| count > 0);
    let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = match args.threads {
        Some(threads) => threads.into(),
        None => set.unwrap_or_else(|| world.threads(cores())),
    };
    let mut args = args.clone();
    args.threads = Some(u16::try_from(threads).unwrap_or(u16::MAX));
    let (model, device) = begin(model, blocks, &args, world.local_rank)?;
    let (config, head) = (model.config, model.head);
    let precision = args.dtype.into();
    let (engine, sha256) = match model.source {
        Source::Local(local) => block_on(load_with_fingerprint(
            &mut local.into_files(),
            config,
            blocks,
            precision,
            &device,
        ))?,
        Source::Remote(remote) => {
            let progress = Progress::new();
            let report = |event: Event| progress.show(&event);
            let loading = fetch_with_fingerprint(*remote, blocks, precision, &device, &report);
            let loaded = wait(&device, loading);
            progress.end();
            loaded?
        }
    };
    // Other heads on the same trunk are other models.
    let (engine, sha256) = match head {
        Some(head) => {
            let mut hash = Sha256::new();
            hash.update(sha256);
            hash.update(head.to_bytes()?);
            (head.on(&*engine)?, to_hex(&hash.finalize()))
        }
        None => (engine, sha256),
    };
    Ok(Loaded {
        engine,
        device,
        sha256,
        threads,
    })
}

/// A model whose files are found, and the device for it; of several GPUs that of the local rank.
fn begin(
    model: Model,
    blocks: usize,
    args: &args::Model,
    local_rank: Option<u64>,
) -> Result<(Model, Device)> {
    let mut model = model;
    match &mut model.source {
        Source::Local(local) => {
            local.config = model.config.clone();
            // Before a device starts: a broken checkpoint is told at once.
            local.locate()?;
        }
        Source::Remote(remote) => remote.config = model.config.clone(),
    }
    if let Some(threads) = args.threads {
        threads::start(threads.into())?;
    }
    let real = match local_rank.map(usize::try_from) {
        Some(Ok(rank)) => gpu::Adapters::Nth(rank),
        _ => gpu::Adapters::Hardware,
    };
    let device = match args.device {
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Gpu => Device::Gpu(block_on(async {
            match real {
                // A software driver will do if it is all there is.
                gpu::Adapters::Nth(_) => match gpu::open(real).await {
                    Ok(device) => Ok(device),
                    Err(_) => gpu::open(gpu::Adapters::Any).await,
                },
                _ => gpu::open(gpu::Adapters::Any).await,
            }
        })?),
        DeviceChoice::Auto => {
            let precision = args.dtype.into();
            block_on(real_gpu(&model.config, blocks, precision, real)).unwrap_or(Device::Cpu)
        }
    };
    Ok((model, device))
}

/// A GPU that computes rightly.
async fn real_gpu(
    config: &Config,
    blocks: usize,
    precision: Precision,
    adapters: gpu::Adapters,
) -> Result<Device> {
    let device = Device::Gpu(gpu::open(adapters).await?);
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
