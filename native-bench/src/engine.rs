//! The device asked for, and the model on it.

use std::num::NonZero;

use aim_web::config::Config;
use aim_web::cpu::threads;
use aim_web::device::{Device, gpu};
use aim_web::engine::{
    Engine, HostOutput, HostTensor, fetch, fetch_with_fingerprint, largest_batch,
    load_with_fingerprint, self_check,
};
use aim_web::hex::to_hex;
use aim_web::precision::Precision;
use aim_web::weights::remote::Event;
use aim_web::{Error, ErrorKind, Result};
use pollster::block_on;
use sha2::{Digest as _, Sha256};

use crate::args::{self, DeviceChoice, Target};
use crate::model::{Model, Source};
use crate::remote::Progress;
use crate::world::World;
use crate::{drivers, output};

/// A model on its device.
pub struct Loaded {
    pub engine: Box<dyn Engine>,
    pub device: Device,
    /// Over its configuration and its weights, as they are stored.
    pub sha256: String,
    /// How many threads of the CPU this process is to take.
    pub threads: usize,
    /// How many pictures the device takes at once.
    pub batch: usize,
}

/// Loads a model with its first `blocks` blocks on the device that the options name.
pub fn load(model: Model, blocks: usize, args: &args::Model) -> Result<(Box<dyn Engine>, Device)> {
    let (engine, device, _) = load_for_batch(model, blocks, args, 1)?;
    Ok((engine, device))
}

/// Makes the pool of threads: so many, or with 0 as many as the machine has cores.
pub fn start_threads(count: usize) -> Result<()> {
    threads::start(count).map_err(|error| error.at("--threads"))
}

/// The same for batches of `wanted` pictures: whether they fit is counted before anything is loaded. The batch that fits comes
/// with the model; if it is smaller, there is a warning.
pub fn load_for_batch(
    model: Model,
    blocks: usize,
    args: &args::Model,
    wanted: usize,
) -> Result<(Box<dyn Engine>, Device, usize)> {
    let model = located(model)?;
    let precision = args.settings.dtype.into();
    start_threads(args.settings.threads.unwrap_or_default().into())?;
    let device = open(args.settings.target, &model.config, blocks, precision)?;
    tell_of_fp16(precision, &device);
    let batch = fitting_batch(&model.config, blocks, precision, &device, wanted)?;
    let engine = load_onto(model, blocks, precision, &device)?;
    Ok((engine, device, batch))
}

/// A model whose weights are known to be there: a broken checkpoint is an error at once, before a device starts.
pub fn located(model: Model) -> Result<Model> {
    let config = model.config.clone();
    let source = match model.source {
        Source::Local(mut local) => {
            local.config = config;
            local.locate()?;
            Source::Local(local)
        }
        Source::Remote(mut remote) => {
            remote.config = config;
            Source::Remote(remote)
        }
    };
    Ok(Model { source, ..model })
}

/// The most pictures up to `wanted` that such a model will take at once on a device; there is a warning if that is fewer.
pub fn fitting_batch(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
    wanted: usize,
) -> Result<usize> {
    let batch = largest_batch(config, blocks, precision, device, wanted)?;
    warn_of_cut(wanted, batch);
    Ok(batch)
}

/// Says that what was asked for is not what runs.
fn tell_of_fp16(asked: Precision, device: &Device) {
    if asked == Precision::Fp16 && !device.is_gpu() {
        output::note("a CPU has no products of fp16: fp32 runs in its place");
    }
}

/// Says that fewer pictures run at once than were asked for.
pub fn warn_of_cut(wanted: usize, batch: usize) {
    if batch < wanted {
        output::note(&format!(
            "{wanted} pictures at once take more memory than there is: {batch} run at a time"
        ));
    }
}

/// Puts a model on a device.
pub fn load_onto(
    model: Model,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<Box<dyn Engine>> {
    let head = model.head;
    let engine = match model.source {
        Source::Local(local) => block_on(local.load_blocks(blocks, device, precision))?,
        Source::Remote(remote) => {
            let progress = Progress::new();
            let report = |event: Event| progress.show(&event);
            let engine = wait(device, fetch(*remote, blocks, precision, device, &report));
            progress.end();
            engine?
        }
    };
    match head {
        Some(head) => head.on(&*engine),
        None => Ok(engine),
    }
}

/// The device that the options name. `auto` takes a GPU that computes a model of this shape rightly.
pub fn open(
    target: Target,
    config: &Config,
    blocks: usize,
    precision: Precision,
) -> Result<Device> {
    match (target.device, target.adapter) {
        (DeviceChoice::Auto, None) => {
            let check = async {
                let device = open_gpu(gpu::Adapters::Hardware, gpu::Language::Best).await?;
                self_check(config, blocks, precision, &device).await?;
                Ok::<_, Error>(device)
            };
            Ok(block_on(check).unwrap_or(Device::Cpu))
        }
        _ => open_named(target),
    }
}

/// The device that the options name; `auto` takes a real GPU.
pub fn open_named(Target { device, adapter }: Target) -> Result<Device> {
    let language = language(device)?;
    let adapters = match (device, adapter) {
        (DeviceChoice::Cpu, Some(_)) => {
            return Err(Error::new(
                ErrorKind::Option,
                "--adapter is the number of a GPU: leave it out, or take --device gpu",
            ));
        }
        (DeviceChoice::Cpu, None) => return Ok(Device::Cpu),
        (DeviceChoice::Cuda, number) => return open_cuda(number.unwrap_or(0)),
        (_, Some(number)) => gpu::Adapters::Number(number),
        (DeviceChoice::Auto, None) => {
            let gpu = block_on(open_gpu(gpu::Adapters::Hardware, language));
            return Ok(gpu.unwrap_or(Device::Cpu));
        }
        (_, None) => gpu::Adapters::Any,
    };
    block_on(open_gpu(adapters, language))
}

/// The language of the kernels of a device that the options name.
fn language(device: DeviceChoice) -> Result<gpu::Language> {
    #[cfg(not(all(feature = "vulkan", feature = "metal", feature = "cuda")))]
    let lacking = |feature: &str| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "this aim-bench was built without {feature}: take --device gpu, or build it by \
                 `cargo build --release -p native-bench --features {feature}`"
            ),
        )
    };
    match device {
        DeviceChoice::Webgpu => Ok(gpu::Language::Wgsl),
        #[cfg(feature = "vulkan")]
        DeviceChoice::Vulkan => Ok(gpu::Language::SpirV),
        #[cfg(feature = "metal")]
        DeviceChoice::Metal => Ok(gpu::Language::Msl),
        #[cfg(not(feature = "vulkan"))]
        DeviceChoice::Vulkan => Err(lacking("vulkan")),
        #[cfg(not(feature = "metal"))]
        DeviceChoice::Metal => Err(lacking("metal")),
        #[cfg(not(feature = "cuda"))]
        DeviceChoice::Cuda => Err(lacking("cuda")),
        _ => Ok(gpu::Language::Best),
    }
}

/// A GPU, with the memory that its driver says it has free.
async fn open_gpu(adapters: gpu::Adapters, language: gpu::Language) -> Result<Device> {
    let mut gpu = gpu::open_as(adapters, language, gpu::Extent::All).await?;
    if gpu.memory.is_none() {
        gpu.memory = drivers::gpu_memory(&gpu.pci_bus, gpu.is_integrated).map(|memory| memory.free);
    }
    Ok(Device::Gpu(gpu))
}

/// The GPU of CUDA's number, with its free memory.
#[cfg(feature = "cuda")]
fn open_cuda(number: usize) -> Result<Device> {
    let mut gpu = gpu::cuda::open(number)?;
    gpu.pci_bus = drivers::cuda_bus(number).unwrap_or_default();
    gpu.memory = drivers::gpu_memory(&gpu.pci_bus, false).map(|memory| memory.free);
    Ok(Device::Cuda(gpu))
}

/// That of a local rank, counted around: each process may be let see one of its own alone.
#[cfg(feature = "cuda")]
fn open_cuda_around(rank: usize) -> Result<Device> {
    open_cuda(rank.checked_rem(gpu::cuda::count()).unwrap_or(0))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda_around(rank: usize) -> Result<Device> {
    open_cuda(rank)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: usize) -> Result<Device> {
    language(DeviceChoice::Cuda).map(|_| Device::Cpu)
}

/// As [`load_for_batch`], for one of several processes: on its own GPU, if there are several, with its share of the
/// cores. Also says which weights these are. On a CPU each core takes a picture at a time, whatever the batch.
pub fn load_in_world(
    model: Model,
    blocks: usize,
    args: &args::Model,
    world: &World,
    wanted: usize,
) -> Result<Loaded> {
    let set = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|count| count.parse().ok())
        .filter(|&count: &usize| count > 0);
    let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = match args.settings.threads {
        Some(threads) => threads.into(),
        None => set.unwrap_or_else(|| world.threads(cores())),
    };
    let model = located(model)?;
    start_threads(threads)?;
    let (config, head) = (model.config.clone(), model.head);
    let precision = args.settings.dtype.into();
    let device = open_in_world(args.settings.target, &config, blocks, precision, world)?;
    tell_of_fp16(precision, &device);
    let batch = if device.is_gpu() {
        fitting_batch(&config, blocks, precision, &device, wanted)?
    } else {
        wanted
    };
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
        batch,
    })
}

/// The device that the options name; of several GPUs, where they name none, that of the local rank.
fn open_in_world(
    target: Target,
    config: &Config,
    blocks: usize,
    precision: Precision,
    world: &World,
) -> Result<Device> {
    let rank = world
        .local_rank
        .and_then(|rank| usize::try_from(rank).ok())
        .filter(|_| target.adapter.is_none() && target.device != DeviceChoice::Cpu);
    let Some(rank) = rank else {
        return open(target, config, blocks, precision);
    };
    let language = language(target.device)?;
    if target.device == DeviceChoice::Cuda {
        return open_cuda_around(rank);
    }
    let device = block_on(async {
        let device = open_gpu(gpu::Adapters::Nth(rank), language).await?;
        self_check(config, blocks, precision, &device).await?;
        Ok::<_, Error>(device)
    });
    // Without a real GPU a software driver will do if a GPU was asked for.
    device.or_else(|_| open(target, config, blocks, precision))
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
