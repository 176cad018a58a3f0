//! `aim-bench bench`: how fast this machine runs a model.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use aim_web::config::ProbeLayers;
use aim_web::{Error, ErrorKind, Result};
use clap::ValueEnum as _;

use super::Outcome;
use super::bench_model::failure;
use crate::args::bench::{Bench, BenchModel, BenchPeak, Synthetic};
use crate::args::{DeviceChoice, Dtype, Model, Settings, Target};
use crate::bench::row::Row;
use crate::bench::{chart, child, table};
use crate::files::{Unfinished, write_whole};
use crate::output::{self, JsonList, say};

/// A combination of what is asked for, but for the batches.
#[derive(Clone)]
struct Setting {
    synthetic: Option<Synthetic>,
    target: Target,
    dtype: Dtype,
    threads: Option<u16>,
    probe_layers: Option<ProbeLayers>,
}

/// Rows as they come.
struct Report {
    rows: Vec<Row>,
    json: Option<JsonList>,
}

/// A peak by what it is of: the device, its threads, the dtype.
type Peaks = HashMap<(Option<String>, String, Option<usize>, String), Option<f64>>;

/// Measures one combination after the other. One that fails is reported, and the next follows.
pub fn run(args: &Bench) -> Result<Outcome> {
    let settings = settings(args)?;
    let reports = [
        ("--svg", args.svg.as_deref()),
        ("--markdown", args.markdown.as_deref()),
    ];
    output::reserve(&reports, args.json)?;
    // Before the first combination: a sweep may take long.
    let Pipes { svg, markdown } = try_reports(args)?;
    if args.dtype.contains(&Dtype::Fp16) && args.device.contains(&DeviceChoice::Cpu) {
        output::note("a CPU has no products of fp16: fp32 is measured in its place");
    }
    let mut report = Report {
        rows: Vec::new(),
        json: args.json.then(JsonList::new),
    };
    let mut peaks = Peaks::new();
    let start = Instant::now();
    let is_late = |limit: f64| start.elapsed().as_secs_f64() > limit;
    let mut left_out = 0;
    for settings in settings {
        let count = settings.len();
        for (nth, setting) in settings.into_iter().enumerate() {
            if args.time_limit.is_some_and(is_late) {
                left_out += 1;
                continue;
            }
            let before = report.rows.len();
            measure(args, &setting, &mut peaks, &mut report)?;
            let row = report.rows.get(before);
            if row.is_some_and(|row| is_gpu(&row.device)) {
                // The rest of the list differs only in --threads.
                if nth + 1 < count {
                    output::note("a GPU is measured with the first of several --threads alone");
                }
                break;
            }
        }
    }
    if left_out > 0 {
        output::note(&format!(
            "the time is up: {left_out} combinations are left out"
        ));
    }
    // What was measured is kept wherever it can be, though one of the three is broken.
    let list = report.json.map_or(Ok(()), JsonList::end);
    let svg = write(svg, args.svg.as_deref(), || chart::svg(&report.rows));
    let markdown = write(markdown, args.markdown.as_deref(), || {
        table::markdown(&report.rows)
    });
    list.and(svg).and(markdown)?;
    if report.rows.iter().any(|row| row.error.is_some()) {
        return Ok(Outcome::Incomplete);
    }
    Ok(Outcome::Complete)
}

/// The reports that go to a pipe or a device, open: whoever reads one waits for its end.
struct Pipes {
    svg: Option<Unfinished>,
    markdown: Option<Unfinished>,
}

/// Sees whether the reports can be written, and leaves what is there as it is.
fn try_reports(args: &Bench) -> Result<Pipes> {
    let svg = args.svg.as_deref().map(Unfinished::new).transpose()?;
    let markdown = args.markdown.as_deref().map(Unfinished::new).transpose()?;
    match (&svg, &markdown) {
        (Some(svg), Some(markdown)) if svg.is_same_as(markdown) => Err(Error::new(
            ErrorKind::Option,
            "--svg and --markdown are one file: name two",
        )),
        _ => Ok(Pipes {
            svg: svg.filter(Unfinished::is_pipe),
            markdown: markdown.filter(Unfinished::is_pipe),
        }),
    }
}

/// Writes a report, if it is asked for.
fn write(pipe: Option<Unfinished>, path: Option<&Path>, text: impl Fn() -> String) -> Result<()> {
    match (pipe, path) {
        (Some(pipe), _) => pipe.finish_with(text().as_bytes()),
        (None, Some(path)) => write_whole(path, text().as_bytes()),
        (None, None) => Ok(()),
    }
}

/// Whether a row's device is a GPU, as far as is known: where `auto` failed it may be either.
fn is_gpu(device: &str) -> bool {
    device != DeviceChoice::Cpu.name() && device != DeviceChoice::Auto.name()
}

/// Every combination once; in one list are those that differ in their threads alone.
fn settings(args: &Bench) -> Result<Vec<Vec<Setting>>> {
    let is_cpu = |device: &DeviceChoice| *device == DeviceChoice::Cpu;
    if !args.adapter.is_empty() && args.device.iter().all(is_cpu) {
        return Err(Error::new(
            ErrorKind::Option,
            "--adapter is the number of a GPU: leave it out, or add gpu to --device",
        ));
    }
    let may_be_cpu = |device: &DeviceChoice| is_cpu(device) || *device == DeviceChoice::Auto;
    if distinct(&args.threads).len() > 1 && !args.device.iter().any(may_be_cpu) {
        return Err(Error::new(
            ErrorKind::Option,
            "several --threads are for the CPU, a GPU is measured with one: name one, or add cpu to --device",
        ));
    }
    let layers: Vec<ProbeLayers> = args
        .probe_layers
        .iter()
        .flat_map(|several| several.0.clone())
        .collect();
    let threads = or_none(&args.threads);
    let mut settings = Vec::new();
    for synthetic in or_none(&args.synthetic) {
        for device in distinct(&args.device) {
            let adapters = if device == DeviceChoice::Cpu {
                vec![None]
            } else {
                or_none(&args.adapter)
            };
            for adapter in adapters {
                for dtype in dtypes(device, &args.dtype) {
                    for probe_layers in or_none(&layers) {
                        let setting = |threads: &Option<u16>| Setting {
                            synthetic: synthetic.clone(),
                            target: Target { device, adapter },
                            dtype,
                            threads: *threads,
                            probe_layers: probe_layers.clone(),
                        };
                        settings.push(threads.iter().map(setting).collect());
                    }
                }
            }
        }
    }
    Ok(settings)
}

/// What was asked for, or once nothing.
fn or_none<T: Clone + PartialEq>(list: &[T]) -> Vec<Option<T>> {
    if list.is_empty() {
        return vec![None];
    }
    distinct(list).into_iter().map(Some).collect()
}

/// In the order given.
fn distinct<T: Clone + PartialEq>(list: &[T]) -> Vec<T> {
    list.iter().fold(Vec::new(), |mut seen, value| {
        if !seen.contains(value) {
            seen.push(value.clone());
        }
        seen
    })
}

/// The dtypes that differ on a device.
fn dtypes(device: DeviceChoice, asked: &[Dtype]) -> Vec<Dtype> {
    let on_device = |dtype: &Dtype| match dtype {
        Dtype::Fp16 if device == DeviceChoice::Cpu => Dtype::Fp32,
        dtype => *dtype,
    };
    distinct(&asked.iter().map(on_device).collect::<Vec<_>>())
}

/// Measures the batches of a setting. One that runs out of memory is halved as long as a smaller one was not measured.
fn measure(args: &Bench, setting: &Setting, peaks: &mut Peaks, report: &mut Report) -> Result<()> {
    let mut batches = args.batch.clone();
    batches.sort_unstable();
    batches.dedup();
    let mut largest = 0;
    loop {
        let Some(row) = measure_batches(args, setting, &batches, peaks, report, &mut largest)?
        else {
            return Ok(());
        };
        let half = row.batch / 2;
        let is_memory = row
            .error
            .as_ref()
            .is_some_and(|failure| failure.code == ErrorKind::OutOfMemory.code());
        // Without a model the batch is not what is too large.
        if !is_memory || row.load_s.is_none() || half <= largest {
            return report.take(row);
        }
        output::note(&format!(
            "a batch of {} ran out of memory: {half} follow instead",
            row.batch
        ));
        batches = vec![u32::try_from(half).unwrap_or(1)];
    }
}

/// Runs a process for batches, and gives the row that failed, if one did.
fn measure_batches(
    args: &Bench,
    setting: &Setting,
    batches: &[u32],
    peaks: &mut Peaks,
    report: &mut Report,
    largest: &mut usize,
) -> Result<Option<Row>> {
    let part = BenchModel {
        model: Model {
            source: args.source.clone(),
            settings: Settings {
                probe_layers: setting.probe_layers.clone(),
                target: setting.target,
                threads: setting.threads,
                dtype: setting.dtype,
            },
        },
        synthetic: setting.synthetic.clone(),
        batch: batches.to_vec(),
        timing: args.timing,
    };
    let mut failed = None;
    let mut last: Option<Row> = None;
    let mut closed = None;
    let ran = child::run(part.to_args(), |mut row: Row| {
        if row.error.is_some() {
            failed = Some(row);
            return Ok(());
        }
        if let Some(peak) = peak(setting, &row, peaks) {
            row.hold_against(peak);
        }
        *largest = row.batch;
        last = Some(row.clone());
        report.take(row).map_err(|error| {
            let copy = Error::new(error.kind(), error.to_string());
            closed = Some(error);
            copy
        })
    });
    if let Some(error) = closed {
        return Err(error);
    }
    let Err(error) = ran else {
        return Ok(failed);
    };
    // It said nothing of its end: the batch after the last one that it measured is to blame.
    let next = batches.iter().find(|&&batch| batch as usize > *largest);
    let row = failed.unwrap_or_else(|| Row {
        device: setting.target.device.name(),
        dtype: dtype_name(setting.dtype),
        batch: next.map_or(*largest, |&batch| batch as usize),
        threads: setting.threads.map(usize::from),
        model: setting
            .synthetic
            .as_ref()
            .map_or_else(String::new, |synthetic| synthetic.name.clone()),
        error: Some(failure(&error)),
        ..last.map_or_else(Row::default, |row| Row {
            adapter: row.adapter,
            probe_layers: row.probe_layers,
            load_s: row.load_s,
            ..Row::default()
        })
    });
    Ok(Some(row))
}

fn dtype_name(dtype: Dtype) -> String {
    aim_web::precision::Precision::from(dtype).name().to_owned()
}

/// The most operations a second of what a row was measured on: measured once.
fn peak(setting: &Setting, row: &Row, peaks: &mut Peaks) -> Option<f64> {
    let adapter = setting.target.adapter.map(|adapter| adapter.to_string());
    let adapter = adapter.or_else(|| row.adapter.clone());
    let key = (adapter, row.device.clone(), row.threads, row.dtype.clone());
    *peaks.entry(key).or_insert_with(|| {
        let dtype = Dtype::from_str(&row.dtype, true).unwrap_or(Dtype::Fp32);
        let device = DeviceChoice::from_str(&row.device, true).unwrap_or(setting.target.device);
        let part = BenchPeak {
            target: Target {
                device,
                adapter: setting.target.adapter,
            },
            threads: setting.threads,
            dtype,
        };
        let mut peak = None;
        let measured = child::run(part.to_args(), |flops: f64| {
            peak = Some(flops);
            Ok(())
        });
        if let Err(error) = measured {
            output::warn(&format!(
                "the peak of {} in {} is not known: {}",
                row.adapter.as_deref().unwrap_or(&row.device),
                row.dtype,
                output::one_line(&error)
            ));
        }
        peak
    })
}

impl Report {
    /// Shows a row at once: a sweep may take long.
    fn take(&mut self, row: Row) -> Result<()> {
        if let Some(failure) = &row.error {
            let Row {
                device,
                dtype,
                batch,
                ..
            } = &row;
            let message = &failure.message;
            output::warn(&format!("{device}, {dtype}, batch {batch}: {message}"));
        }
        if let Some(list) = &mut self.json {
            list.push(&row)?;
        } else {
            let adapter = |row: &Row| (row.model.clone(), row.device.clone(), row.adapter.clone());
            if self.rows.last().map(adapter) != Some(adapter(&row)) {
                let name = row.adapter.as_deref().unwrap_or("no device");
                say!("{} on {}: {name}", row.model, row.device)?;
                say!("{}", table::heading())?;
            }
            say!("{}", table::line(&row))?;
        }
        self.rows.push(row);
        Ok(())
    }
}
