//! This machine's processor and this process's memory.

use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// The processor, as it calls itself.
pub fn processor() -> Option<String> {
    let cpus = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(cpus);
    let brand = system.cpus().first()?.brand().trim();
    (!brand.is_empty()).then(|| brand.to_owned())
}

/// What of its instructions matters here.
pub fn instructions() -> Vec<&'static str> {
    let mut names = Vec::new();
    macro_rules! add {
        ($detected:ident: $($name:tt),*) => {
            $(if std::arch::$detected!($name) {
                names.push($name);
            })*
        };
    }
    #[cfg(target_arch = "x86_64")]
    add!(is_x86_feature_detected: "avx2", "fma", "f16c", "avx512f", "avx512vnni", "avxvnni");
    #[cfg(target_arch = "aarch64")]
    add!(is_aarch64_feature_detected: "neon", "dotprod", "i8mm");
    names
}

/// The memory of the machine: all of it, and what is left, in bytes, if the system tells.
pub fn memory() -> Option<(u64, u64)> {
    let memory = RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::everything());
    let system = System::new_with_specifics(memory);
    let total = system.total_memory();
    (total > 0).then(|| (total, system.available_memory()))
}

/// The most bytes of memory that this process had at any time.
#[cfg(target_os = "linux")]
pub fn peak_bytes() -> Option<u64> {
    peak_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

#[cfg(target_os = "linux")]
fn peak_of(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The bytes of memory that this process has now: elsewhere than on Linux nothing keeps the most.
#[cfg(not(target_os = "linux"))]
pub fn peak_bytes() -> Option<u64> {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate};

    let own = sysinfo::get_current_pid().ok()?;
    let mut system = System::new();
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), true, memory);
    Some(system.process(own)?.memory())
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_read_from_what_linux_tells() {
        let status = "Name:\taim-bench\nVmPeak:\t  900 kB\nVmHWM:\t   123456 kB\nVmRSS:\t 99 kB\n";
        assert_eq!(super::peak_of(status), Some(123_456 * 1024));
        assert_eq!(super::peak_of("Name:\tx\n"), None);
        assert!(super::peak_bytes().unwrap() > 1 << 20);
    }
}
