//! How much work a device is given at once, and what it refused of it.

use std::cell::Cell;

use cubecl::prelude::*;
use cubecl::server::{IoError, LaunchError, ServerError};

use crate::error::{Error, ErrorKind, Result};

/// The most floating-point operations of a submission. Systems take a GPU that works on one for some seconds for a hung one,
/// Windows after two: a slow one, of a tenth of a TFLOPS, takes half a second for these.
/// In tests as many as their products have several times.
pub(super) const MOST_OPERATIONS: u64 = if cfg!(test) {
    10_000_000
} else {
    50_000_000_000
};

thread_local! {
    /// The operations that this thread launched since the last submission.
    static PENDING: Cell<u64> = const { Cell::new(0) };

    /// The first error since somebody asked.
    static FAILURE: Cell<Option<Error>> = const { Cell::new(None) };
}

/// Makes room for a launch of so many operations: what was launched before is submitted if both are too many for once.
pub(super) fn make_room<R: Runtime>(client: &ComputeClient<R>, operations: u64) {
    let all = PENDING.get().saturating_add(operations);
    if all > MOST_OPERATIONS {
        submit(client);
    }
    PENDING.set(PENDING.get().saturating_add(operations));
}

/// Submits what was launched, and gives the first error since the last call: without it what a device refuses would
/// leave the numbers that were in its memory before.
pub(super) fn failure<R: Runtime>(client: &ComputeClient<R>) -> Result<()> {
    submit(client);
    FAILURE.take().map_or(Ok(()), Err)
}

fn submit<R: Runtime>(client: &ComputeClient<R>) {
    PENDING.set(0);
    if let Err(error) = client.flush() {
        keep(refused(&error));
    }
}

/// Keeps an error for [`failure`], unless there is one.
pub(super) fn keep(error: Error) {
    FAILURE.set(Some(FAILURE.take().unwrap_or(error)));
}

fn refused(error: &ServerError) -> Error {
    let first = match error {
        ServerError::ServerUnhealthy { errors, .. } => errors.first().unwrap_or(error),
        error => error,
    };
    let kind = match first {
        ServerError::Io(IoError::BufferTooBig { .. })
        | ServerError::Launch(
            LaunchError::OutOfMemory { .. } | LaunchError::IoError(IoError::BufferTooBig { .. }),
        ) => ErrorKind::OutOfMemory,
        _ => ErrorKind::DeviceLost,
    };
    // Behind the reason follows a backtrace.
    let text = first.to_string();
    let lines = text
        .lines()
        .take_while(|line| !line.starts_with("Backtrace"));
    let reason: Vec<&str> = lines.map(str::trim).collect();
    Error::new(
        kind,
        format!("the GPU refused an operation: {}", reason.join(" ")),
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use burn_wgpu::WgpuRuntime;
    use pollster::block_on;

    use super::super::block::buffer;
    use super::super::{Adapters, Gpu, GpuDevice, open};
    use super::*;
    use crate::gpu::linear::{Epilogue, combine};

    fn gpu() -> GpuDevice {
        block_on(open(Adapters::Any)).expect("the GPU tests need an adapter")
    }

    #[test]
    fn much_work_is_submitted_in_between() {
        let client = WgpuRuntime::client(&gpu().device);
        let half = MOST_OPERATIONS / 2;
        let pending = [half, half, half, 3 * MOST_OPERATIONS, 1].map(|operations| {
            make_room(&client, operations);
            PENDING.get()
        });
        assert_eq!(
            pending,
            [half, 2 * half, half, 3 * MOST_OPERATIONS, 1],
            "what is too much alone goes alone"
        );
        assert!(failure(&client).is_ok());
        assert_eq!(PENDING.get(), 0);
    }

    #[test]
    fn what_a_device_refuses_is_reported_once() {
        let gpu = gpu();
        let client = WgpuRuntime::client(&gpu.device);
        assert!(failure(&client).is_ok());
        let x = buffer(Tensor::<Gpu, 1>::zeros([16], &gpu.device));
        let array = || x.clone().into_array_arg();
        // No device has so many units.
        let units = CubeDim::new_1d(1 << 20);
        let one = CubeCount::Static(1, 1, 1);
        combine::launch(
            &client,
            one,
            units,
            array(),
            array(),
            array(),
            4,
            1,
            1,
            Epilogue::None,
        );
        make_room(&client, 2 * MOST_OPERATIONS);
        make_room(&client, MOST_OPERATIONS);
        let error = failure(&client).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::DeviceLost);
        assert!(
            text.starts_with("the GPU refused an operation: ") && !text.contains('\n'),
            "{text}"
        );
        assert!(failure(&client).is_ok());
    }
}
