//! A GPU through wgpu: Vulkan, Metal or DirectX 12 natively, WebGPU in a browser; and NVIDIA's through CUDA.

#[cfg(feature = "vulkan")]
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use burn_cubecl::CubeBackend;
use burn_wgpu::{RuntimeOptions, WgpuDevice, WgpuRuntime, WgpuSetup};
use cubecl::prelude::*;
use futures_channel::oneshot;
use futures_util::FutureExt as _;
use futures_util::future::Shared;
use wgpu::DeviceType;

use self::runtime::GpuRuntime;
use self::upload::WgpuUpload;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::launch::{Limits, words};
use crate::memory;

pub mod block;
#[cfg(feature = "cuda")]
pub mod cuda;
mod dense;
pub mod runtime;
mod submit;
pub mod upload;

/// burn's backend of a GPU's runtime: f32 values, i32 indices.
pub type GpuBackend<R, BT> = CubeBackend<R, f32, i32, BT>;

/// That of wgpu.
pub type Gpu = GpuBackend<WgpuRuntime, u32>;

/// What is known of an open device besides what burn keeps of it.
struct Open {
    device: WgpuDevice,
    queue: wgpu::Queue,
    limits: Limits,
}

/// The open devices.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

impl GpuRuntime for WgpuRuntime {
    type Upload = WgpuUpload;

    fn limits(device: &WgpuDevice) -> Limits {
        let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter()
            .find(|open| open.device == *device)
            .map_or(Limits::LEAST, |open| open.limits)
    }
}

/// The queue of a device, until it is destroyed.
pub(super) fn queue(device: &WgpuDevice) -> Option<wgpu::Queue> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.iter()
        .find(|open| open.device == *device)
        .map(|open| open.queue.clone())
}

/// A device and what is behind it.
#[derive(Clone, Debug)]
pub struct GpuDevice {
    /// What burn takes.
    pub device: WgpuDevice,
    /// The name the driver gives the adapter.
    pub adapter: String,
    /// True if the adapter computes on the CPU: right, and slow.
    pub is_software: bool,
    /// Where the adapter is, as `0000:01:00.0`; empty if its driver does not report it.
    pub pci_bus: String,
    /// True if its memory is the machine's.
    pub is_integrated: bool,
    /// The bytes that models and pictures may take of its memory. Of a software adapter those that the machine had left when
    /// it was opened; of others wgpu says nothing: whoever can ask the driver sets it.
    pub memory: Option<u64>,
    wgpu: wgpu::Device,
    lost: Shared<oneshot::Receiver<(ErrorKind, String)>>,
}

impl GpuDevice {
    /// Ends with an error once the device is of no use any more: it went away, or an operation
    /// failed whose error no caller was waiting for. A read that is pending then may never end by
    /// itself, so race it against this.
    pub async fn lost(&self) -> Error {
        match self.lost.clone().await {
            Ok((kind, reason)) => Error::new(kind, reason),
            Err(oneshot::Canceled) => Error::device_lost("the GPU device was closed"),
        }
    }

    /// Ends once a few bytes have been there and back. There are browsers that give a device whose reads never end.
    ///
    /// # Errors
    /// [`ErrorKind::DeviceLost`] if they don't come back.
    #[cfg(target_family = "wasm")]
    pub async fn answers(&self) -> Result<()> {
        let client = WgpuRuntime::client(&self.device);
        let sent = client.create_from_slice(&[0; 4]);
        let back = client.read_async(vec![sent]).await;
        back.map(drop).map_err(|error| {
            Error::device_lost("the GPU gives nothing back").with_source(error.to_string())
        })
    }

    /// Whether its kernels may compute in f16.
    pub fn has_halves(&self) -> bool {
        WgpuRuntime::limits(&self.device).halves
    }

    /// What its products are computed by, in words.
    pub fn kernels(&self) -> String {
        words(WgpuRuntime::limits(&self.device))
    }

    /// The bytes of its memory that are taken on this thread's behalf. Buffers that are free again are kept for the next
    /// ones, so after a pass it is the most that the pass took.
    pub fn bytes_taken(&self) -> Option<u64> {
        // The driver's side, where it counts, also knows what goes past burn.
        if let Some(report) = self.wgpu.generate_allocator_report() {
            return Some(report.total_reserved_bytes);
        }
        let usage = WgpuRuntime::client(&self.device).memory_usage().ok()?;
        Some(usage.bytes_reserved)
    }

    /// Gives the device up, as if it went away.
    pub fn destroy(&self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|open| open.device != self.device);
        self.wgpu.destroy();
    }
}

/// Which adapters will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapters {
    /// Only real GPUs.
    Hardware,
    /// Also drivers that compute on the CPU.
    Any,
    /// Of the real GPUs this one, counted from 0 and around: where several processes share a machine, each takes one
    /// by its local rank.
    #[cfg(not(target_family = "wasm"))]
    Nth(usize),
    /// That of [`list`] which has this number.
    #[cfg(not(target_family = "wasm"))]
    Number(usize),
}

impl Adapters {
    /// Whether software will not do.
    const fn are_real(self) -> bool {
        match self {
            Self::Hardware => true,
            Self::Any => false,
            #[cfg(not(target_family = "wasm"))]
            Self::Number(_) => false,
            #[cfg(not(target_family = "wasm"))]
            Self::Nth(_) => true,
        }
    }
}

/// What an adapter is, and what it can do.
#[cfg(not(target_family = "wasm"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// The name that its driver gives it.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// Its driver, as far as that is reported.
    pub driver: String,
    /// As [`GpuDevice::pci_bus`].
    pub pci_bus: String,
    /// Whether [`Adapters::Any`] takes it.
    pub is_default: bool,
    /// The most bytes of a buffer that a kernel may read.
    pub largest_buffer: u64,
    /// The bytes that the units of a workgroup may share.
    pub shared_memory: u32,
    /// The most units of a workgroup.
    pub units: u32,
    /// Whether kernels may compute in f16.
    pub halves: bool,
    /// Whether units may exchange values without memory.
    pub subgroups: bool,
}

/// The adapters of this machine, in an order that stays.
#[cfg(not(target_family = "wasm"))]
pub async fn list() -> Vec<Adapter> {
    let instance = instance();
    let default = most_powerful(&instance).await.ok();
    let default = default.map(|adapter| adapter.get_info());
    let adapters = instance.enumerate_adapters(BACKENDS).await;
    adapters
        .iter()
        .map(|adapter| {
            let (info, limits, features) =
                (adapter.get_info(), adapter.limits(), adapter.features());
            Adapter {
                backend: info.backend.to_str(),
                kind: match info.device_type {
                    DeviceType::DiscreteGpu => "discrete",
                    DeviceType::IntegratedGpu => "integrated",
                    DeviceType::VirtualGpu => "virtual",
                    DeviceType::Cpu => "software",
                    DeviceType::Other => "other",
                },
                driver: [&*info.driver, &*info.driver_info]
                    .join(" ")
                    .trim()
                    .to_owned(),
                is_default: default.as_ref().is_some_and(|default| {
                    let key = |info: &wgpu::AdapterInfo| {
                        (
                            info.name.clone(),
                            info.backend,
                            info.device_pci_bus_id.clone(),
                        )
                    };
                    key(default) == key(&info)
                }),
                largest_buffer: limits
                    .max_storage_buffer_binding_size
                    .min(limits.max_buffer_size),
                shared_memory: limits.max_compute_workgroup_storage_size,
                units: limits.max_compute_invocations_per_workgroup,
                halves: features.contains(wgpu::Features::SHADER_F16),
                subgroups: features.contains(wgpu::Features::SUBGROUP),
                pci_bus: info.device_pci_bus_id,
                name: info.name,
            }
        })
        .collect()
}

/// No OpenGL: its loader writes to standard error where there is no display.
const BACKENDS: wgpu::Backends = wgpu::Backends::PRIMARY;

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: BACKENDS,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

async fn most_powerful(instance: &wgpu::Instance) -> Result<wgpu::Adapter> {
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    instance.request_adapter(&options).await.map_err(|error| {
        Error::device_lost(
            "no GPU adapter was found; install a driver (a software one: mesa-vulkan-drivers) or use the CPU",
        )
        .with_source(error)
    })
}

#[cfg(not(target_family = "wasm"))]
async fn numbered(instance: &wgpu::Instance, number: usize) -> Result<wgpu::Adapter> {
    let adapters = instance.enumerate_adapters(BACKENDS).await;
    let count = adapters.len();
    adapters.into_iter().nth(number).ok_or_else(|| {
        Error::option(match count {
            0 => "there is no GPU adapter: install a driver (a software one: mesa-vulkan-drivers) or use the CPU".to_owned(),
            1 => format!("there is no GPU adapter {number}: the only one is 0"),
            _ => format!("there is no GPU adapter {number}: they are 0 to {}", count - 1),
        })
    })
}

/// False if the kernel knows of no GPU: then no driver need be loaded to learn that there is none,
/// and a software driver takes 80 MB and a tenth of a second.
#[cfg(target_os = "linux")]
fn may_have_gpu() -> bool {
    // Mesa and AMD, NVIDIA, WSL, Adreno, Mali.
    [
        "/dev/dri",
        "/dev/nvidiactl",
        "/dev/dxg",
        "/dev/kgsl-3d0",
        "/dev/mali0",
    ]
    .iter()
    .any(|node| std::path::Path::new(node).exists())
}

/// Elsewhere only the driver knows.
#[cfg(not(target_os = "linux"))]
const fn may_have_gpu() -> bool {
    true
}

/// One of the real GPUs: of the discrete ones, where there are any.
#[cfg(not(target_family = "wasm"))]
async fn nth(instance: &wgpu::Instance, n: usize) -> Result<wgpu::Adapter> {
    let all = instance.enumerate_adapters(BACKENDS).await;
    let of_type = |wanted: &[DeviceType]| -> Vec<&wgpu::Adapter> {
        let is_wanted = |adapter: &&wgpu::Adapter| wanted.contains(&adapter.get_info().device_type);
        all.iter().filter(is_wanted).collect()
    };
    let mut real = of_type(&[DeviceType::DiscreteGpu]);
    if real.is_empty() {
        real = of_type(&[
            DeviceType::IntegratedGpu,
            DeviceType::VirtualGpu,
            DeviceType::Other,
        ]);
    }
    let chosen = n.checked_rem(real.len()).and_then(|n| real.get(n));
    chosen
        .map(|adapter| (*adapter).clone())
        .ok_or_else(|| Error::device_lost("this machine has no GPU with a driver"))
}

/// Whether an adapter computes on the CPU. A browser reports no device type, but its own software
/// adapter has a known name.
fn is_software(info: &wgpu::AdapterInfo) -> bool {
    const NAMES: [&str; 4] = [
        "swiftshader",
        "llvmpipe",
        "lavapipe",
        "microsoft basic render",
    ];
    let name = info.name.to_lowercase();
    info.device_type == DeviceType::Cpu || NAMES.iter().any(|known| name.contains(known))
}

/// A device of an adapter, and what says to burn which compiler it takes.
async fn request(
    adapter: &wgpu::Adapter,
    language: Language,
    extent: Extent,
) -> Result<(wgpu::Device, wgpu::Queue, wgpu::Backend)> {
    let info = adapter.get_info();
    #[cfg(feature = "vulkan")]
    if matches!(language, Language::Best | Language::SpirV) && extent == Extent::All {
        if info.backend == wgpu::Backend::Vulkan {
            // A device that the driver refuses is a panic of CubeCL's.
            let requested = cubecl::wgpu::vulkan::request_vulkan_device(adapter);
            let requested = AssertUnwindSafe(requested).catch_unwind().await;
            if let Ok(Some((device, queue))) = requested {
                return Ok((device, queue, wgpu::Backend::Vulkan));
            }
        }
        if language == Language::SpirV {
            return Err(Error::unsupported(format!(
                "{} does not take SPIR-V of this kind: take --device webgpu",
                info.name
            )));
        }
    }
    #[cfg(feature = "metal")]
    if language == Language::Msl && info.backend != wgpu::Backend::Metal {
        return Err(Error::unsupported(format!(
            "{} is no adapter of Metal: take --device webgpu",
            info.name
        )));
    }
    let (required_features, required_limits) = match extent {
        Extent::All => (
            // Buffers that are both mapped and bound slow down discrete GPUs.
            adapter
                .features()
                .difference(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)
                // Nobody profiles, and of an adapter in a page it may not be true: see www/package/scripts/build.mjs.
                .difference(wgpu::Features::TIMESTAMP_QUERY)
                .difference(wgpu::Features::all_experimental_mask()),
            adapter.limits(),
        ),
        Extent::Least => {
            // burn asks the adapter, not the device, how many units it may take and whether there are integers of 64 bits: of
            // those only our own kernels are held to the least.
            let all = adapter.limits();
            let integers = adapter.features() & wgpu::Features::SHADER_INT64;
            let least = wgpu::Limits {
                max_compute_invocations_per_workgroup: all.max_compute_invocations_per_workgroup,
                max_compute_workgroup_size_x: all.max_compute_workgroup_size_x,
                max_compute_workgroup_size_y: all.max_compute_workgroup_size_y,
                max_compute_workgroup_size_z: all.max_compute_workgroup_size_z,
                ..wgpu::Limits::default().using_alignment(all)
            };
            (integers, least)
        }
    };
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            label: Some("aim-web"),
            required_features,
            required_limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        })
        .await
        .map_err(|error| {
            Error::device_lost(format!("the adapter {} gives no device", info.name))
                .with_source(error)
        })?;
    let backend = match (language, info.backend) {
        // burn takes WGSL for this one, and else for some the language that the build has beside it.
        (Language::Wgsl, _) | (_, wgpu::Backend::Vulkan) => wgpu::Backend::BrowserWebGpu,
        (_, backend) => backend,
    };
    Ok((device, queue, backend))
}

/// In which language a device takes its kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// The fastest that this build has for an adapter.
    #[default]
    Best,
    /// WGSL, as in a browser.
    Wgsl,
    /// SPIR-V, by Vulkan, with its products of small matrices: in builds with the feature `vulkan`.
    #[cfg(feature = "vulkan")]
    SpirV,
    /// Metal's own: in builds with the feature `metal`.
    #[cfg(feature = "metal")]
    Msl,
}

/// What a device may use of its adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// All that it has.
    #[default]
    All,
    /// What WebGPU promises of every adapter: what runs on such a device runs on all. No f16, no subgroups, 16 KiB of shared
    /// memory and 256 units a workgroup, buffers of 128 MiB.
    Least,
}

/// Opens the most powerful adapter, that of a number, or that of a local rank: as [`open_as`] in the best language.
///
/// # Errors
/// As [`open_as`].
pub async fn open(adapters: Adapters) -> Result<GpuDevice> {
    open_as(adapters, Language::Best, Extent::All).await
}

/// Opens an adapter.
///
/// The device is made here and handed to burn, which on its own would panic where this gives an
/// error. Whether it computes rightly shows when a model is loaded.
///
/// # Errors
/// [`ErrorKind::DeviceLost`] if there is no such adapter, or it gives no device; [`ErrorKind::Option`] if none has the number,
/// [`ErrorKind::Unsupported`] if it does not take the language.
pub async fn open_as(adapters: Adapters, language: Language, extent: Extent) -> Result<GpuDevice> {
    if adapters.are_real() && !may_have_gpu() {
        return Err(Error::device_lost("this machine has no GPU"));
    }
    let instance = instance();
    let adapter = match adapters {
        #[cfg(not(target_family = "wasm"))]
        Adapters::Number(number) => numbered(&instance, number).await?,
        #[cfg(not(target_family = "wasm"))]
        Adapters::Nth(n) => nth(&instance, n).await?,
        Adapters::Hardware | Adapters::Any => most_powerful(&instance).await?,
    };
    let info = adapter.get_info();
    let is_software = is_software(&info);
    if is_software && adapters.are_real() {
        return Err(Error::device_lost(format!(
            "the only GPU adapter, {}, computes on the CPU",
            info.name
        )));
    }
    let (device, queue, backend) = request(&adapter, language, extent).await?;
    let (sender, lost) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    // Only the first reason counts; what follows is its consequence.
    let end = move |kind: ErrorKind, reason: String| {
        let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Nobody may be listening any more.
            let _ = sender.send((kind, reason));
        }
    };
    let on_error = end.clone();
    device.set_device_lost_callback(move |_, message| {
        end(
            ErrorKind::DeviceLost,
            format!("the GPU device was lost: {message}"),
        );
    });
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let kind = match &error {
            wgpu::Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            _ => ErrorKind::DeviceLost,
        };
        on_error(kind, format!("the GPU refused an operation: {error}"));
    }));

    let setup = WgpuSetup {
        instance,
        adapter,
        device: device.clone(),
        queue: queue.clone(),
        backend,
    };
    let burns = burn_wgpu::init_device(setup, RuntimeOptions::default());
    let client = WgpuRuntime::client(&burns);
    let allowed = device.limits();
    let halves = device.features().contains(wgpu::Features::SHADER_F16);
    let units = allowed.max_compute_invocations_per_workgroup;
    let limits = Limits {
        units: match extent {
            Extent::All => units,
            Extent::Least => units.min(Limits::LEAST.units),
        },
        shared: allowed.max_compute_workgroup_storage_size as usize,
        is_software,
        halves,
        // In WGSL there are none, though the adapter has them.
        matrices: matches!(backend, wgpu::Backend::Vulkan | wgpu::Backend::Metal)
            && halves
            && dense::has_matrices(&client),
    };
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.push(Open {
        device: burns.clone(),
        queue,
        limits,
    });
    drop(open);
    Ok(GpuDevice {
        device: burns,
        adapter: info.name,
        is_software,
        is_integrated: info.device_type == DeviceType::IntegratedGpu,
        pci_bus: info.device_pci_bus_id,
        // Its memory is the machine's.
        memory: is_software.then(memory::available).flatten(),
        wgpu: device,
        lost: lost.shared(),
    })
}
