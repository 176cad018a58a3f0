//! A GPU through wgpu: Vulkan, Metal or DirectX 12 natively, WebGPU in a browser.

use std::sync::{Arc, Mutex, PoisonError};

use burn_wgpu::{RuntimeOptions, WgpuDevice, WgpuSetup};
use futures_channel::oneshot;
use futures_util::FutureExt as _;
use futures_util::future::Shared;
use wgpu::DeviceType;

use crate::error::{Error, ErrorKind, Result};

/// The backend: f32 values, i32 indices.
pub type Gpu = burn_wgpu::WebGpu<f32, i32, u32>;

/// What is known of an open device besides what burn keeps of it.
struct Open {
    device: WgpuDevice,
    queue: wgpu::Queue,
    is_software: bool,
}

/// The open devices.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

/// Whether a device computes on the CPU.
pub(super) fn is_software(device: &WgpuDevice) -> bool {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.iter()
        .any(|open| open.device == *device && open.is_software)
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
    wgpu: wgpu::Device,
    lost: Shared<oneshot::Receiver<(ErrorKind, String)>>,
}

impl GpuDevice {
    /// Ends with an error once the device is of no use any more: it went away, or an operation
    /// failed that nobody was there to be told about. A read that is pending then may never end by
    /// itself, so race it against this.
    pub async fn lost(&self) -> Error {
        match self.lost.clone().await {
            Ok((kind, reason)) => Error::new(kind, reason),
            Err(oneshot::Canceled) => Error::device_lost("the GPU device was closed"),
        }
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

/// One of the real GPUs: of the discrete ones, where there are any.
#[cfg(not(target_family = "wasm"))]
async fn nth(instance: &wgpu::Instance, n: usize) -> Result<wgpu::Adapter> {
    let all = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
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

/// Opens an adapter: the most powerful one, unless it is told which.
///
/// The device is made here and handed to burn, which on its own would panic where this gives an
/// error. Whether it computes rightly shows when a model is loaded.
///
/// # Errors
/// [`ErrorKind::DeviceLost`] if there is no such adapter, or it gives no device.
pub async fn open(adapters: Adapters) -> Result<GpuDevice> {
    if adapters != Adapters::Any && !may_have_gpu() {
        return Err(Error::device_lost("this machine has no GPU"));
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        // No OpenGL: its loader writes to standard error where there is no display.
        backends: wgpu::Backends::PRIMARY,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = match adapters {
        #[cfg(not(target_family = "wasm"))]
        Adapters::Nth(n) => nth(&instance, n).await?,
        Adapters::Hardware | Adapters::Any => most_powerful(&instance).await?,
    };
    let info = adapter.get_info();
    let is_software = info.device_type == DeviceType::Cpu;
    if is_software && adapters == Adapters::Hardware {
        return Err(Error::device_lost(format!(
            "the only GPU adapter, {}, computes on the CPU",
            info.name
        )));
    }
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            label: Some("aim-web"),
            // Buffers that are both mapped and bound slow down discrete GPUs.
            required_features: adapter
                .features()
                .difference(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)
                .difference(wgpu::Features::all_experimental_mask()),
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        })
        .await
        .map_err(|error| {
            Error::device_lost(format!("the adapter {} gives no device", info.name))
                .with_source(error)
        })?;
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
        backend: info.backend,
    };
    let burns = burn_wgpu::init_device(setup, RuntimeOptions::default());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.push(Open {
        device: burns.clone(),
        queue,
        is_software,
    });
    drop(open);
    Ok(GpuDevice {
        device: burns,
        adapter: info.name,
        is_software,
        wgpu: device,
        lost: lost.shared(),
    })
}
