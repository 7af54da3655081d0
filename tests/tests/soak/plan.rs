//! What a client will do: a sequence that its seed decides.

use super::operation::{Operation, Place};

/// So many names are fought over; copies have names of their own, or most could not be made.
const WORKSPACES: u64 = 5;
const COPIES: u64 = 3;
const VOLUMES: u64 = 2;

type Choice = (u64, fn(&mut Dice) -> Operation);

/// How often each operation is chosen.
const CHOICES: [Choice; 23] = [
    (34, |dice| Operation::Record(dice.workspace())),
    (8, |dice| Operation::Look(dice.workspace(), dice.below(5))),
    (10, |dice| Operation::Run { code: dice.below(100), spare: dice.below(3) == 0 }),
    (12, |dice| Operation::RecordInVolume(dice.volume())),
    (4, |dice| Operation::Create(dice.workspace(), dice.settings())),
    (10, |dice| Operation::Detach(dice.workspace(), dice.settings())),
    (12, |dice| Operation::Verb("start", dice.workspace())),
    (10, |dice| Operation::Verb("halt", dice.workspace())),
    (3, |dice| Operation::Verb("stop", dice.workspace())),
    (4, |dice| Operation::Verb("kill", dice.workspace())),
    (2, |dice| Operation::Verb("restart", dice.workspace())),
    (3, |dice| Operation::Verb("pause", dice.workspace())),
    (9, |dice| Operation::Verb("resume", dice.workspace())),
    (5, |dice| Operation::Pair("clone", dice.workspace(), dice.copy())),
    (2, |dice| Operation::Pair("rename", dice.workspace(), dice.copy())),
    (4, |dice| Operation::Delete(dice.workspace())),
    (6, |dice| Operation::CopyIn(dice.workspace())),
    (6, |dice| Operation::CopyOut(dice.workspace())),
    (2, |dice| Operation::Quarantine(dice.workspace())),
    (8, |dice| Operation::Release(dice.workspace())),
    (1, |dice| Operation::Commit(dice.workspace())),
    (1, |dice| Operation::DeleteVolume(dice.volume())),
    (8, |dice| Operation::KillSomebody(dice.number())),
];

/// A sequence of operations.
pub(super) struct Plan {
    dice: Dice,
    left: usize,
}

impl Plan {
    pub(super) fn new(seed: u64, client: usize, operations: usize) -> Self {
        let client = u64::try_from(client).expect("there are few clients");
        Self { dice: Dice(seed ^ (client + 1).wrapping_mul(0xd134_2543_de82_ef95)), left: operations }
    }
}

impl Iterator for Plan {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        self.left = self.left.checked_sub(1)?;
        let all = CHOICES.iter().map(|(weight, _)| weight).sum();
        let mut left = self.dice.below(all);
        let (_, choice) = CHOICES.iter().find(|(weight, _)| {
            let chosen = left < *weight;
            left = left.saturating_sub(*weight);
            chosen
        })?;
        Some(choice(&mut self.dice))
    }
}

/// Splitmix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    fn workspace(&mut self) -> Place {
        if self.below(5) == 0 { self.copy() } else { Place(format!("box-{}", self.below(WORKSPACES))) }
    }

    fn copy(&mut self) -> Place {
        Place(format!("copy-{}", self.below(COPIES)))
    }

    fn volume(&mut self) -> Place {
        Place(format!("data-{}", self.below(VOLUMES)))
    }

    /// Flags for a new workspace.
    fn settings(&mut self) -> Vec<String> {
        let volume = format!("-v={}:/data", self.volume());
        let all = [volume.as_str(), "-p=127.77.0.1:0:80", "--restart=on-failure:1", "--network=isolated", ""];
        let flag = all[self.below(5) as usize];
        Some(flag.to_owned()).filter(|flag| !flag.is_empty()).into_iter().collect()
    }
}
