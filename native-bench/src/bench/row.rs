//! What was measured of one batch.

use serde::{Deserialize, Serialize};

use super::timing::Spread;

/// One line of the table. What the system does not tell is `None`, `null` in JSON.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// `cpu`, or what `--device` calls the GPU.
    pub device: String,
    /// The GPU or the processor, as it calls itself.
    pub adapter: Option<String>,
    /// The precision that the weights have.
    pub dtype: String,
    /// Pictures that run at once.
    pub batch: usize,
    /// Threads that compute, of a CPU.
    pub threads: Option<usize>,
    /// The median, from the normalised pictures on the host to the logits there.
    pub ms_per_image: Option<f64>,
    pub images_per_second: Option<f64>,
    /// 1e12 multiplications and additions a second, in the products of the model alone.
    pub tflops: Option<f64>,
    /// `tflops` as a share of `peak_tflops`, from 0 to 1.
    pub peak_share: Option<f64>,
    /// Seconds from the open files to a model that is ready; of a synthetic one they include its making.
    pub load_s: Option<f64>,
    /// The most memory that the process had.
    pub peak_host_bytes: Option<u64>,
    /// The most memory that it took of the GPU.
    pub peak_device_bytes: Option<u64>,

    /// The model, as it was asked for.
    pub model: String,
    /// The blocks whose outputs the probe averages.
    pub probe_layers: Vec<usize>,
    /// The fastest and the slowest batch, as `ms_per_image`.
    pub ms_lowest: Option<f64>,
    pub ms_highest: Option<f64>,
    /// Batches that were timed.
    pub runs: usize,
    /// 1e12 floating-point operations a second, in the fastest product of large matrices on this device.
    pub peak_tflops: Option<f64>,
    pub joules_per_image: Option<f64>,

    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What went wrong.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Failure {
    /// As `AimError.code` in the npm package.
    pub code: String,
    pub message: String,
}

impl Row {
    /// Fills in what follows from the seconds that batches took, with `flops` operations a picture.
    pub fn time(&mut self, spread: &Spread, flops: f64) {
        let per_image = |seconds: f64| seconds / self.batch.max(1) as f64;
        let seconds = per_image(spread.median);
        self.ms_per_image = Some(seconds * 1e3);
        self.ms_lowest = Some(per_image(spread.lowest) * 1e3);
        self.ms_highest = Some(per_image(spread.highest) * 1e3);
        self.runs = spread.count;
        if seconds > 0.0 {
            self.images_per_second = Some(seconds.recip());
            self.tflops = Some(flops / seconds / 1e12);
        }
    }

    /// Fills in what follows from the most operations a second.
    pub fn hold_against(&mut self, peak: f64) {
        // A clock that is too coarse for it measures nothing.
        if !peak.is_finite() || peak <= 0.0 {
            return;
        }
        self.peak_tflops = Some(peak / 1e12);
        self.peak_share = self.tflops.map(|tflops| tflops / (peak / 1e12));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_follow_from_times() {
        let mut row = Row {
            batch: 4,
            ..Row::default()
        };
        let spread = Spread {
            median: 0.5,
            lowest: 0.4,
            highest: 1.0,
            count: 7,
        };
        row.time(&spread, 3e12);
        row.hold_against(48e12);
        assert_eq!(row.ms_per_image, Some(125.0));
        assert_eq!((row.ms_lowest, row.ms_highest), (Some(100.0), Some(250.0)));
        assert_eq!(row.images_per_second, Some(8.0));
        assert_eq!(row.tflops, Some(24.0));
        assert_eq!(row.peak_share, Some(0.5));
        assert_eq!(row.runs, 7);
        for none in [0.0, f64::INFINITY, f64::NAN] {
            let mut other = Row {
                tflops: Some(1.0),
                ..Row::default()
            };
            other.hold_against(none);
            assert_eq!((other.peak_tflops, other.peak_share), (None, None));
        }
        let text = serde_json::to_string(&row).unwrap();
        assert!(!text.contains("error"), "{text}");
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }
}
