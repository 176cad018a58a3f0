//! Which of several processes this is, as whatever started them says.
//!
//! No launcher of our own: each process takes its own part of the pictures and knows nothing of the others.

use std::fmt;
use std::ops::Range;

use aim_web::{Error, ErrorKind, Result};

use crate::args;
use crate::output;

/// One of some processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// Its number, from 0.
    pub rank: u64,
    /// How many there are.
    pub size: u64,
    /// Its number among those on this machine.
    pub local_rank: Option<u64>,
    /// How many there are on this machine, if they share its cores.
    pub local_size: Option<u64>,
    /// Who said so.
    pub by: Launcher,
}

/// Who starts processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// There is but one process.
    None,
    /// `--rank` and `--world-size`.
    Options,
    Torchrun,
    OpenMpi,
    Pmi,
    Slurm,
    SlurmArray,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "alone",
            Self::Options => "by options",
            Self::Torchrun => "of torchrun",
            Self::OpenMpi => "of Open MPI",
            Self::Pmi => "of PMI",
            Self::Slurm => "of Slurm",
            Self::SlurmArray => "of a Slurm array",
        })
    }
}

/// The variables of a launcher: rank, size, local rank, local size.
struct Names {
    by: Launcher,
    rank: &'static str,
    size: &'static str,
    local_rank: &'static [&'static str],
    /// Only where the launcher leaves all cores to each process.
    local_size: Option<&'static str>,
}

/// In the order in which they are asked. What `mpirun` starts in an allocation of Slurm inherits its variables, which are
/// those of one process: so Slurm comes last.
const LAUNCHERS: [Names; 3] = [
    Names {
        by: Launcher::Torchrun,
        rank: "RANK",
        size: "WORLD_SIZE",
        local_rank: &["LOCAL_RANK"],
        local_size: Some("LOCAL_WORLD_SIZE"),
    },
    Names {
        by: Launcher::OpenMpi,
        rank: "OMPI_COMM_WORLD_RANK",
        size: "OMPI_COMM_WORLD_SIZE",
        local_rank: &["OMPI_COMM_WORLD_LOCAL_RANK"],
        local_size: None,
    },
    Names {
        by: Launcher::Pmi,
        rank: "PMI_RANK",
        size: "PMI_SIZE",
        local_rank: &["MPI_LOCALRANKID", "PMI_LOCAL_RANK"],
        local_size: None,
    },
];

impl World {
    /// Which process this is: by its options, else by the variables that launchers set.
    ///
    /// # Errors
    /// Kind `Option` if they contradict themselves.
    pub fn find(options: &args::World) -> Result<Self> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let world = Self::of(options, &var)?;
        if world.by == Launcher::Slurm && world.size > 1 && var("SLURM_STEP_ID").is_none() {
            output::warn(
                "SLURM_NTASKS is over 1, but srun did not start this process: if it is the only one, start it by srun",
            );
        }
        Ok(world)
    }

    fn of(options: &args::World, var: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        if let (Some(rank), Some(size)) = (options.rank, options.world_size) {
            return Self::checked(Launcher::Options, rank, size, options.local_rank, None);
        }
        let number = |name: &'static str| -> Result<Option<u64>> {
            let parse = |text: String| {
                text.trim()
                    .parse()
                    .map_err(|_| wrong(format!("{name} is {text:?}, and not a number")))
            };
            var(name).map(parse).transpose()
        };
        let first = |names: &[&'static str]| -> Result<Option<u64>> {
            for name in names {
                if let Some(number) = number(name)? {
                    return Ok(Some(number));
                }
            }
            Ok(None)
        };
        for names in LAUNCHERS {
            let (rank, size) = match (number(names.rank)?, number(names.size)?) {
                (None, None) => continue,
                (Some(rank), Some(size)) => (rank, size),
                (rank, _) => {
                    let (is, lacks) = if rank.is_some() {
                        (names.rank, names.size)
                    } else {
                        (names.size, names.rank)
                    };
                    return Err(wrong(format!(
                        "{is} is set, but {lacks} is not: set both or neither, or give --rank and --world-size"
                    )));
                }
            };
            let local_rank = match options.local_rank {
                None => first(names.local_rank)?,
                given => given,
            };
            let local_size = match names.local_size {
                Some(name) => number(name)?,
                None => None,
            };
            return Self::checked(names.by, rank, size, local_rank, local_size);
        }
        let tasks = match (number("SLURM_PROCID")?, number("SLURM_NTASKS")?) {
            (Some(rank), Some(size)) => Some((rank, size)),
            // An allocation without a task of its own, or a step without a number of tasks.
            _ => None,
        };
        let elements = array(&number)?;
        let local_rank = match options.local_rank {
            None => number("SLURM_LOCALID")?,
            given => given,
        };
        match (elements, tasks) {
            (None, None) => Self::checked(Launcher::None, 0, 1, options.local_rank, None),
            (None, Some((rank, size))) => {
                Self::checked(Launcher::Slurm, rank, size, local_rank, None)
            }
            // Each element of the array is a job, of one task or more.
            (Some((element, elements)), tasks) => {
                let (rank, size) = tasks.unwrap_or((0, 1));
                let inner = Self::checked(Launcher::Slurm, rank, size, None, None)?;
                let too_many = || wrong("the array has too many tasks".to_owned());
                let rank = element
                    .checked_mul(inner.size)
                    .and_then(|before| before.checked_add(inner.rank))
                    .ok_or_else(too_many)?;
                let size = elements.checked_mul(inner.size).ok_or_else(too_many)?;
                Self::checked(Launcher::SlurmArray, rank, size, local_rank, None)
            }
        }
    }

    fn checked(
        by: Launcher,
        rank: u64,
        size: u64,
        local_rank: Option<u64>,
        local_size: Option<u64>,
    ) -> Result<Self> {
        if size == 0 {
            return Err(wrong("a world of 0 processes has no work".to_owned()));
        }
        if rank >= size {
            return Err(wrong(format!(
                "rank {rank} is not in a world of {size}: ranks count from 0"
            )));
        }
        Ok(Self {
            rank,
            size,
            local_rank,
            local_size: local_size.filter(|size| *size > 0),
            by,
        })
    }

    /// The part of `count` things that is this process's: parts differ by one at most.
    pub fn share(&self, count: usize) -> Range<usize> {
        let bound = |rank: u64| {
            let before = count as u128 * u128::from(rank) / u128::from(self.size);
            usize::try_from(before).unwrap_or(count)
        };
        bound(self.rank)..bound(self.rank + 1)
    }

    /// How many threads it should take of so many cores.
    pub fn threads(&self, cores: usize) -> usize {
        let share = usize::try_from(self.local_size.unwrap_or(1)).unwrap_or(1);
        (cores / share.max(1)).max(1)
    }
}

/// The number of this element of an array job, and of how many.
fn array(number: &dyn Fn(&'static str) -> Result<Option<u64>>) -> Result<Option<(u64, u64)>> {
    let Some(id) = number("SLURM_ARRAY_TASK_ID")? else {
        return Ok(None);
    };
    let Some(count) = number("SLURM_ARRAY_TASK_COUNT")? else {
        return Err(wrong(
            "SLURM_ARRAY_TASK_ID is set, but SLURM_ARRAY_TASK_COUNT is not: give --rank and --world-size"
                .to_owned(),
        ));
    };
    let min = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
    let max = number("SLURM_ARRAY_TASK_MAX")?;
    let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
    let sparse = || {
        wrong(format!(
            "the Slurm array is sparse (task {id} of {count}, from {min} by {step}): its tasks must be evenly spaced, such as --array=0-7, or give --rank and --world-size"
        ))
    };
    let from_min = id.checked_sub(min).ok_or_else(sparse)?;
    let is_even = max.is_none_or(|max| {
        max.checked_sub(min)
            .is_some_and(|width| width.is_multiple_of(step) && width / step + 1 == count)
    });
    if !is_even || !from_min.is_multiple_of(step) || from_min / step >= count {
        return Err(sparse());
    }
    Ok(Some((from_min / step, count)))
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Option, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_OPTIONS: args::World = args::World {
        rank: None,
        world_size: None,
        local_rank: None,
    };

    fn world(vars: &[(&str, &str)]) -> Result<World> {
        let var = |name: &str| {
            let found = vars.iter().find(|(own, _)| *own == name)?;
            Some(found.1.to_owned())
        };
        World::of(&NO_OPTIONS, &var)
    }

    fn found(vars: &[(&str, &str)]) -> (Launcher, u64, u64, Option<u64>) {
        let world = world(vars).unwrap();
        (world.by, world.rank, world.size, world.local_rank)
    }

    fn refused(vars: &[(&str, &str)], part: &str) {
        let error = world(vars).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option);
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn every_launcher_is_understood() {
        assert_eq!(found(&[]), (Launcher::None, 0, 1, None));
        assert_eq!(
            found(&[("RANK", "9"), ("WORLD_SIZE", "16"), ("LOCAL_RANK", "1")]),
            (Launcher::Torchrun, 9, 16, Some(1))
        );
        assert_eq!(
            found(&[
                ("OMPI_COMM_WORLD_RANK", "2"),
                ("OMPI_COMM_WORLD_SIZE", "3"),
                ("OMPI_COMM_WORLD_LOCAL_RANK", "2"),
                // Of the allocation that mpirun runs in.
                ("SLURM_PROCID", "0"),
                ("SLURM_NTASKS", "3"),
            ]),
            (Launcher::OpenMpi, 2, 3, Some(2))
        );
        assert_eq!(
            found(&[
                ("PMI_RANK", "1"),
                ("PMI_SIZE", "2"),
                ("MPI_LOCALRANKID", "1")
            ]),
            (Launcher::Pmi, 1, 2, Some(1))
        );
        assert_eq!(
            found(&[
                ("SLURM_PROCID", "5"),
                ("SLURM_NTASKS", "8"),
                ("SLURM_LOCALID", "1")
            ]),
            (Launcher::Slurm, 5, 8, Some(1))
        );
        assert_eq!(
            found(&[("SLURM_NTASKS", "8")]),
            (Launcher::None, 0, 1, None)
        );
    }

    fn element<'a>(id: &'a str, range: [&'a str; 4]) -> Vec<(&'static str, &'a str)> {
        let [min, max, step, count] = range;
        vec![
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_MIN", min),
            ("SLURM_ARRAY_TASK_MAX", max),
            ("SLURM_ARRAY_TASK_STEP", step),
            ("SLURM_ARRAY_TASK_COUNT", count),
        ]
    }

    #[test]
    fn arrays_of_slurm_count_from_their_first_task() {
        let array = ["10", "16", "2", "4"];
        for (id, rank) in [("10", 0), ("12", 1), ("16", 3)] {
            let own = found(&element(id, array));
            assert_eq!(own, (Launcher::SlurmArray, rank, 4, None));
        }
        // Each element a job of two tasks.
        let mut vars = element("12", array);
        vars.extend([
            ("SLURM_PROCID", "1"),
            ("SLURM_NTASKS", "2"),
            ("SLURM_LOCALID", "1"),
        ]);
        assert_eq!(found(&vars), (Launcher::SlurmArray, 3, 8, Some(1)));
        // --array=1,3,7 and what makes no sense.
        for (id, range) in [
            ("3", ["1", "7", "1", "3"]),
            ("11", array),
            ("8", array),
            ("18", array),
        ] {
            refused(&element(id, range), "sparse");
        }
        refused(&[("SLURM_ARRAY_TASK_ID", "1")], "SLURM_ARRAY_TASK_COUNT");
    }

    #[test]
    fn contradictions_are_errors() {
        refused(&[("RANK", "0"), ("WORLD_SIZE", "0")], "0 processes");
        refused(&[("RANK", "2"), ("WORLD_SIZE", "2")], "count from 0");
        refused(&[("RANK", "0")], "WORLD_SIZE is not");
        refused(&[("PMI_SIZE", "2")], "PMI_RANK is not");
        refused(&[("RANK", "one"), ("WORLD_SIZE", "2")], "not a number");
        let options = args::World {
            rank: Some(4),
            world_size: Some(4),
            local_rank: None,
        };
        assert!(World::of(&options, &|_| None).is_err());
    }

    #[test]
    fn shares_are_disjoint_and_all() {
        for (count, size) in [(0, 3), (1, 4), (441, 4), (7, 7), (usize::MAX, 3)] {
            let mut next = 0;
            for rank in 0..size {
                let world = World::checked(Launcher::Options, rank, size, None, None).unwrap();
                let share = world.share(count);
                assert_eq!(share.start, next);
                let even = count / usize::try_from(size).unwrap();
                assert!((even..=even + 1).contains(&share.len()));
                next = share.end;
            }
            assert_eq!(next, count);
        }
    }

    #[test]
    fn processes_of_one_machine_share_its_cores() {
        let vars = [
            ("RANK", "0"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_WORLD_SIZE", "8"),
        ];
        let world = world(&vars).unwrap();
        assert_eq!((world.threads(96), world.threads(4)), (12, 1));
    }
}
