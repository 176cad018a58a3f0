//! What the drivers of this machine report beyond what wgpu asks them: the memory of a GPU, and energy.
//!
//! Whatever a driver does not report is `None`: nothing here is an error.

use std::fs;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;

/// Where Linux describes its devices.
const SYS: &str = "/sys";

/// The memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    pub free: u64,
}

/// The memory of the GPU at an address such as `0000:01:00.0`; of one that is integrated, with what it may take of the
/// machine's.
pub fn gpu_memory(pci_bus: &str, is_integrated: bool) -> Option<Memory> {
    if pci_bus.is_empty() {
        return None;
    }
    nvidia_memory(pci_bus).or_else(|| amd_memory(Path::new(SYS), pci_bus, is_integrated))
}

/// The address of the GPU of NVIDIA's that CUDA counts as this one, if it can be known.
#[cfg(feature = "cuda")]
pub fn cuda_bus(number: usize) -> Option<String> {
    let nvml = Nvml::init().ok()?;
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let device = match visible_gpu(number, visible.as_deref())? {
        Visible::Uuid(uuid) => nvml.device_by_uuid(uuid).ok()?,
        // CUDA counts the fastest first, and those that are alike by their addresses, as this library counts all.
        Visible::Number(number) => {
            let by_address =
                std::env::var("CUDA_DEVICE_ORDER").is_ok_and(|order| order == "PCI_BUS_ID");
            if !by_address && !are_alike(&nvml)? {
                return None;
            }
            nvml.device_by_index(number).ok()?
        }
    };
    Some(device.pci_info().ok()?.bus_id)
}

/// Whether all GPUs of NVIDIA's here have one name.
#[cfg(feature = "cuda")]
fn are_alike(nvml: &Nvml) -> Option<bool> {
    let names = (0..nvml.device_count().ok()?).map(|i| nvml.device_by_index(i)?.name());
    let mut names = names.collect::<Result<Vec<String>, _>>().ok()?;
    names.dedup();
    Some(names.len() <= 1)
}

/// How a GPU is named in `CUDA_VISIBLE_DEVICES`.
#[cfg(any(feature = "cuda", test))]
#[derive(Debug, PartialEq, Eq)]
enum Visible<'a> {
    Number(u32),
    Uuid(&'a str),
}

/// Which GPU CUDA counts as `number`, of those that it is let see.
#[cfg(any(feature = "cuda", test))]
fn visible_gpu(number: usize, visible: Option<&str>) -> Option<Visible<'_>> {
    let Some(visible) = visible else {
        return u32::try_from(number).ok().map(Visible::Number);
    };
    let name = visible.split(',').nth(number)?.trim();
    match name.parse() {
        Ok(number) => Some(Visible::Number(number)),
        // A part of a GPU has no memory and no energy of its own there.
        Err(_) => name.starts_with("GPU-").then_some(Visible::Uuid(name)),
    }
}

fn nvidia_memory(pci_bus: &str) -> Option<Memory> {
    let nvml = Nvml::init().ok()?;
    let memory = nvml
        .device_by_pci_bus_id(pci_bus)
        .ok()?
        .memory_info()
        .ok()?;
    Some(Memory {
        total: memory.total,
        free: memory.free,
    })
}

fn amd_memory(sys: &Path, pci_bus: &str, is_integrated: bool) -> Option<Memory> {
    let device = sys.join("bus/pci/devices").join(pci_bus);
    let of = |kind: &str| {
        let total = number(&device.join(format!("mem_info_{kind}_total")))?;
        let used = number(&device.join(format!("mem_info_{kind}_used")))?;
        Some((total, total.saturating_sub(used)))
    };
    let (mut total, mut free) = of("vram")?;
    // What its firmware set apart is little; the rest it shares.
    if is_integrated && let Some((shared, shared_free)) = of("gtt") {
        total = total.saturating_add(shared);
        free = free.saturating_add(shared_free);
    }
    Some(Memory { total, free })
}

/// A file that holds a whole number.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Counts the energy that a device takes, with everything else that runs on it.
pub struct EnergyMeter {
    counters: Vec<Counter>,
}

enum Counter {
    /// A file of microjoules, and where it begins anew.
    File { path: PathBuf, range: Option<u64> },
    /// NVIDIA's library, and which of its devices.
    Nvidia { nvml: Box<Nvml>, pci_bus: String },
}

/// What the counters of a meter said.
pub struct Reading(Vec<u64>);

impl EnergyMeter {
    /// Of all processors of this machine, with the caches and what else is on their chips. Linux lets only the
    /// administrator read it.
    pub fn of_cpu() -> Option<Self> {
        Self::of_packages(Path::new(SYS))
    }

    fn of_packages(sys: &Path) -> Option<Self> {
        let folders = fs::read_dir(sys.join("class/powercap")).ok()?;
        let counters = folders
            .filter_map(|folder| Some(folder.ok()?.path()))
            // `intel-rapl:0` is a package, also AMD's; `intel-rapl:0:1` is a part of it.
            .filter(|folder| {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("intel-rapl:") && name.matches(':').count() == 1
            })
            .map(|folder| Counter::File {
                path: folder.join("energy_uj"),
                range: number(&folder.join("max_energy_range_uj")),
            })
            .collect();
        Self::that_answers(counters)
    }

    /// Of a GPU: NVIDIA's through its library, others' where the kernel counts.
    pub fn of_gpu(pci_bus: &str) -> Option<Self> {
        if pci_bus.is_empty() {
            return None;
        }
        let nvidia = Nvml::init().ok().and_then(|nvml| {
            Self::that_answers(vec![Counter::Nvidia {
                nvml: Box::new(nvml),
                pci_bus: pci_bus.to_owned(),
            }])
        });
        nvidia.or_else(|| Self::of_card(Path::new(SYS), pci_bus))
    }

    fn of_card(sys: &Path, pci_bus: &str) -> Option<Self> {
        let monitors = sys.join("bus/pci/devices").join(pci_bus).join("hwmon");
        let path = fs::read_dir(monitors)
            .ok()?
            .filter_map(|folder| Some(folder.ok()?.path().join("energy1_input")))
            .find(|path| path.exists())?;
        Self::that_answers(vec![Counter::File { path, range: None }])
    }

    fn that_answers(counters: Vec<Counter>) -> Option<Self> {
        let meter = Self { counters };
        meter.read().filter(|Reading(values)| !values.is_empty())?;
        Some(meter)
    }

    /// What it says now.
    pub fn read(&self) -> Option<Reading> {
        let values = self.counters.iter().map(Counter::microjoules);
        values.collect::<Option<Vec<u64>>>().map(Reading)
    }

    /// The joules since a reading; `None` also where the counters have not moved, as some do ten times a second only.
    pub fn joules_since(&self, Reading(before): &Reading) -> Option<f64> {
        let Reading(now) = self.read()?;
        let mut sum = 0_u64;
        for ((counter, before), now) in self.counters.iter().zip(before).zip(now) {
            let range = match counter {
                Counter::File { range, .. } => *range,
                Counter::Nvidia { .. } => None,
            };
            sum += match now.checked_sub(*before) {
                Some(more) => more,
                None => range?.saturating_sub(*before).saturating_add(now),
            };
        }
        (sum > 0).then(|| sum as f64 / 1e6)
    }
}

impl Counter {
    fn microjoules(&self) -> Option<u64> {
        match self {
            Self::File { path, .. } => number(path),
            Self::Nvidia { nvml, pci_bus } => {
                let device = nvml.device_by_pci_bus_id(pci_bus.as_str()).ok()?;
                let millijoules = device.total_energy_consumption().ok()?;
                millijoules.checked_mul(1000)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn packages_are_added_and_begin_anew() {
        let sys = tempfile::tempdir().unwrap();
        assert!(EnergyMeter::of_packages(sys.path()).is_none());
        let rapl = sys.path().join("class/powercap");
        for (folder, energy) in [
            ("intel-rapl:0", "1000000\n"),
            ("intel-rapl:0:0", "999"),
            ("intel-rapl:1", "9500000"),
            ("intel-rapl", "1"),
        ] {
            write(&rapl.join(folder).join("energy_uj"), energy);
            write(&rapl.join(folder).join("max_energy_range_uj"), "10000000");
        }
        let meter = EnergyMeter::of_packages(sys.path()).unwrap();
        let before = meter.read().unwrap();
        assert_eq!(meter.joules_since(&before), None, "nothing moved");
        write(&rapl.join("intel-rapl:0/energy_uj"), "3000000");
        assert_eq!(meter.joules_since(&before), Some(2.0));
        write(&rapl.join("intel-rapl:1/energy_uj"), "500000");
        assert_eq!(meter.joules_since(&before), Some(3.0));
        fs::remove_file(rapl.join("intel-rapl:1/energy_uj")).unwrap();
        assert_eq!(meter.joules_since(&before), None);
    }

    #[test]
    fn cards_tell_of_memory_and_energy() {
        let sys = tempfile::tempdir().unwrap();
        let bus = "0000:03:00.0";
        assert_eq!(amd_memory(sys.path(), bus, false), None);
        assert!(EnergyMeter::of_card(sys.path(), bus).is_none());
        let card = sys.path().join("bus/pci/devices").join(bus);
        write(&card.join("mem_info_vram_total"), "1000");
        write(&card.join("mem_info_vram_used"), "300");
        let memory = Memory {
            total: 1000,
            free: 700,
        };
        assert_eq!(amd_memory(sys.path(), bus, false), Some(memory));
        assert_eq!(amd_memory(sys.path(), bus, true), Some(memory));
        write(&card.join("mem_info_gtt_total"), "5000");
        write(&card.join("mem_info_gtt_used"), "100");
        assert_eq!(amd_memory(sys.path(), bus, false), Some(memory));
        let with_the_machines = Memory {
            total: 6000,
            free: 5600,
        };
        assert_eq!(amd_memory(sys.path(), bus, true), Some(with_the_machines));
        let energy = card.join("hwmon/hwmon4/energy1_input");
        write(&energy, "7");
        let meter = EnergyMeter::of_card(sys.path(), bus).unwrap();
        let before = meter.read().unwrap();
        write(&energy, "1500007");
        assert_eq!(meter.joules_since(&before), Some(1.5));
    }

    #[test]
    fn nothing_is_known_of_a_card_without_an_address() {
        assert_eq!(gpu_memory("", true), None);
        assert!(EnergyMeter::of_gpu("").is_none());
        assert_eq!(gpu_memory("ffff:ff:1f.7", false), None);
    }

    #[test]
    fn cuda_counts_what_it_is_let_see() {
        let seen = |number, visible| visible_gpu(number, visible);
        assert_eq!(seen(2, None), Some(Visible::Number(2)));
        assert_eq!(seen(0, Some("3,1")), Some(Visible::Number(3)));
        assert_eq!(seen(1, Some("3, 1")), Some(Visible::Number(1)));
        assert_eq!(seen(1, Some("3")), None);
        assert_eq!(seen(0, Some("")), None);
        assert_eq!(
            seen(0, Some("GPU-8932f937")),
            Some(Visible::Uuid("GPU-8932f937"))
        );
        assert_eq!(seen(0, Some("MIG-8932f937")), None);
    }
}
