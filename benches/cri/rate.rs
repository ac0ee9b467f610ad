//! How fast bytes are passed on.

use anyhow::Result;
use std::time::Duration;

/// The least and the most that is passed on for one sample, MiB.
const LEAST_MIB: u32 = 8;
const MOST_MIB: u32 = 256;

/// How long a copy has to take for a sample, unless it is of as much as there may be.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// How many samples there are.
const ROUNDS: usize = 5;

/// MB/s, one figure a round. `copy` passes so many MiB on and tells how long that took.
///
/// What is passed on is doubled until it takes long enough; what was too quick is not counted.
pub(crate) async fn measure(
    mut copy: impl AsyncFnMut(u32) -> Result<Duration>,
) -> Result<Vec<f64>> {
    let mut mib = LEAST_MIB;
    let mut rates = Vec::new();
    while rates.len() < ROUNDS {
        let took = copy(mib).await?;
        if rates.is_empty() && took < LONG_ENOUGH && mib < MOST_MIB {
            mib *= 2;
        } else {
            rates.push(f64::from(mib) * f64::from(1 << 20) / 1e6 / took.as_secs_f64());
        }
    }
    Ok(rates)
}
