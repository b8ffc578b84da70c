//! A guest that shares its process with the firmware.

use std::io;

use sealift_attester::{Attester, AttesterError};
use sealift_evidence::SnpEvidence;

use crate::{GuestContext, SimulatedSp};

/// An attester without a launcher's socket, for tests of what a guest does with evidence.
///
/// It holds the chip key, so it proves nothing to anybody: only who already has the folder of a
/// simulated AMD-SP can make one.
#[derive(Clone)]
pub struct InProcessGuest {
    firmware: SimulatedSp,
    context: GuestContext,
}

impl InProcessGuest {
    /// A guest of which `firmware` reports `context`.
    pub fn new(firmware: SimulatedSp, context: GuestContext) -> Self {
        Self { firmware, context }
    }
}

impl Attester for InProcessGuest {
    fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        self.firmware
            .evidence(&self.context, report_data)
            .map_err(|error| AttesterError::Socket(io::Error::other(error)))
    }
}
