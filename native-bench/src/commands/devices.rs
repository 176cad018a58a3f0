//! `aim-bench devices`: what there is to run on.

use aim_web::Result;
use aim_web::cpu::threads;
use aim_web::device::gpu::{self, Adapter};
use pollster::block_on;
use serde::Serialize;

use crate::args::Devices;
use crate::drivers::{self, EnergyMeter, Memory};
use crate::host;
use crate::output::{self, say};

/// A device. What its driver does not tell is `null`.
#[derive(Serialize)]
#[serde(tag = "device", rename_all = "lowercase")]
enum Entry {
    Gpu(Gpu),
    Cpu(Cpu),
}

#[derive(Serialize)]
struct Gpu {
    /// What `--adapter` takes.
    number: usize,
    adapter: String,
    /// `vulkan`, `metal` or `dx12`.
    backend: &'static str,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    kind: &'static str,
    driver: String,
    pci_bus: Option<String>,
    /// Whether `--device gpu` takes it by itself.
    default: bool,
    memory_bytes: Option<u64>,
    free_bytes: Option<u64>,
    largest_buffer_bytes: u64,
    shared_memory_bytes: u32,
    /// The most units of a workgroup.
    workgroup_units: u32,
    f16: bool,
    subgroups: bool,
    /// Whether `bench` can tell what a picture takes.
    energy: bool,
}

#[derive(Serialize)]
struct Cpu {
    adapter: Option<String>,
    threads: usize,
    instructions: Vec<&'static str>,
    memory_bytes: Option<u64>,
    free_bytes: Option<u64>,
    energy: bool,
}

pub fn run(args: &Devices) -> Result<()> {
    let adapters = block_on(gpu::list());
    let mut entries: Vec<Entry> = adapters
        .into_iter()
        .enumerate()
        .map(|(number, adapter)| Entry::Gpu(gpu(number, adapter)))
        .collect();
    let (memory_bytes, free_bytes) = host::memory().unzip();
    entries.push(Entry::Cpu(Cpu {
        adapter: host::processor(),
        threads: threads::count(),
        instructions: host::instructions(),
        memory_bytes,
        free_bytes,
        energy: EnergyMeter::of_cpu().is_some(),
    }));
    if args.json {
        return output::print_json(&entries);
    }
    for entry in &entries {
        match entry {
            Entry::Gpu(gpu) => print_gpu(gpu)?,
            Entry::Cpu(cpu) => print_cpu(cpu)?,
        }
    }
    Ok(())
}

fn gpu(number: usize, adapter: Adapter) -> Gpu {
    let is_software = adapter.kind == "software";
    let memory = if is_software {
        host::memory().map(|(total, free)| Memory { total, free })
    } else {
        drivers::gpu_memory(&adapter.pci_bus, adapter.kind == "integrated")
    };
    Gpu {
        number,
        adapter: adapter.name,
        backend: adapter.backend,
        kind: adapter.kind,
        driver: adapter.driver,
        energy: EnergyMeter::of_gpu(&adapter.pci_bus).is_some(),
        pci_bus: Some(adapter.pci_bus).filter(|bus| !bus.is_empty()),
        default: adapter.is_default,
        memory_bytes: memory.map(|memory| memory.total),
        free_bytes: memory.map(|memory| memory.free),
        largest_buffer_bytes: adapter.largest_buffer,
        shared_memory_bytes: adapter.shared_memory,
        workgroup_units: adapter.units,
        f16: adapter.halves,
        subgroups: adapter.subgroups,
    }
}

fn print_gpu(gpu: &Gpu) -> Result<()> {
    let by_default = if gpu.default { ", the default" } else { "" };
    say!(
        "gpu {}  {} ({}, {}{by_default})",
        gpu.number,
        gpu.adapter,
        gpu.backend,
        gpu.kind
    )?;
    if !gpu.driver.is_empty() {
        say!("       driver {}", gpu.driver)?;
    }
    let memory = memory(gpu.free_bytes, gpu.memory_bytes, "the driver");
    say!(
        "       memory {memory}; buffers up to {}; workgroups of up to {} units share {} KiB",
        binary(gpu.largest_buffer_bytes),
        gpu.workgroup_units,
        gpu.shared_memory_bytes / 1024
    )?;
    let yes = |has: bool| if has { "yes" } else { "no" };
    say!(
        "       f16 {}, subgroups {}, energy {}",
        yes(gpu.f16),
        yes(gpu.subgroups),
        yes(gpu.energy)
    )
}

fn print_cpu(cpu: &Cpu) -> Result<()> {
    say!(
        "cpu    {}, {} threads",
        cpu.adapter.as_deref().unwrap_or("unknown"),
        cpu.threads
    )?;
    say!(
        "       memory {}; {}",
        memory(cpu.free_bytes, cpu.memory_bytes, "the system"),
        cpu.instructions.join(", ")
    )
}

fn memory(free: Option<u64>, total: Option<u64>, by: &str) -> String {
    match (free, total) {
        (Some(free), Some(total)) => format!("{} of {} free", binary(free), binary(total)),
        _ => format!("not reported by {by}"),
    }
}

fn binary(bytes: u64) -> String {
    if bytes < 1 << 30 {
        return format!("{} MiB", bytes >> 20);
    }
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
