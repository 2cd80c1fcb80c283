//! Durations that were measured, and what is told of them.

use std::time::Duration;

/// Durations of the same thing.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<Duration>);

impl Sample {
    pub fn add(&mut self, duration: Duration) {
        self.0.push(duration);
        self.0.sort();
    }

    /// The middle one; of two, their mean.
    pub fn median(&self) -> Duration {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => Duration::ZERO,
            even if even % 2 == 0 => (self.0[middle - 1] + self.0[middle]) / 2,
            _ => self.0[middle],
        }
    }

    pub fn least(&self) -> Duration {
        self.0.first().copied().unwrap_or_default()
    }

    /// A row of a table: least, median, greatest, in milliseconds.
    pub fn row(&self, what: &str) -> String {
        let greatest = self.0.last().copied().unwrap_or_default();
        format!("| {what} | {} | **{}** | {} |\n", ms(self.least()), ms(self.median()), ms(greatest))
    }
}

/// The head of a table of such rows.
pub const HEAD: &str = "| ms | least | median | greatest |\n| --- | ---: | ---: | ---: |\n";

fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 1000.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}
