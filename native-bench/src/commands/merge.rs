//! `aim-bench merge`: the counts of several processes, added exactly.

use aim_web::Result;

use super::{Outcome, eval};
use crate::args::Merge;
use crate::report::{self, counted};

/// Adds parts that together are all pictures, each once, and shows the report that one process would have given.
pub fn run(args: &Merge) -> Result<Outcome> {
    let parts = args
        .parts
        .iter()
        .map(|path| Ok((path.display().to_string(), eval::read_part(path)?)))
        .collect::<Result<Vec<_>>>()?;
    if let Some(folder) = &args.report {
        report::try_folder(folder)?;
    }
    let sum = counted::merge(parts)?;
    eval::show(&sum.report()?, args.report.as_deref(), args.json)
}
