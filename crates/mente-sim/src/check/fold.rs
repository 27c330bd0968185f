//! Restored = live, as the server itself compares it, and damage only where something was damaged.

use super::{Findings, Law};
use crate::history::{Call, Op, Phase};

pub(super) fn check(calls: &[Call<'_>], findings: &mut Findings) {
    for call in calls.iter().filter(|call| call.phase == Phase::Ok) {
        match call.op {
            Op::Verify { differing } if !differing.is_empty() => {
                findings.add(Law::FoldDiffers, call.ended, format!("{differing:?}"));
            }
            Op::Restart { how, damaged, .. } if !damaged.is_empty() => {
                let detail = format!("after {how}: {damaged:?}");
                findings.add(Law::DamageWithoutRot, call.ended, detail);
            }
            _ => {}
        }
    }
}
