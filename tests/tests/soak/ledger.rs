//! What was acknowledged: a record that a guest has flushed, and whose client was told so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A record and its holder: a machine's ID, or a volume's identity.
struct Record {
    holder: String,
    serial: u64,
    /// When it was acknowledged, on the clock that also counts serials.
    acknowledged: u64,
}

/// All that was acknowledged.
#[derive(Default)]
pub(super) struct Ledger {
    clock: AtomicU64,
    records: Mutex<Vec<Record>>,
}

impl Ledger {
    /// The number of the next record.
    pub(super) fn next(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn acknowledge(&self, holder: &str, serial: u64) {
        let acknowledged = self.next();
        let record = Record { holder: holder.to_owned(), serial, acknowledged };
        self.records.lock().unwrap().push(record);
    }

    pub(super) fn len(&self) -> usize {
        self.records.lock().unwrap().len()
    }

    /// The serials that `holder` should have, and that are not among what was `found` there, as `HOLDER-SERIAL`.
    ///
    /// What a holder has of another one's it got when it was cloned: then it has all that was acknowledged before the
    /// newest of it was begun.
    pub(super) fn missing(&self, holder: &str, found: &[&str]) -> Vec<u64> {
        let found: Vec<(&str, u64)> = found
            .iter()
            .map(|name| {
                let (holder, serial) = name.rsplit_once('-').expect("a record's name has two parts");
                (holder, serial.parse().expect("a serial is a number"))
            })
            .collect();
        let newest =
            |of: &str| found.iter().filter(|(holder, _)| *holder == of).map(|(_, serial)| *serial).max();
        let records = self.records.lock().unwrap();
        let wanted = records.iter().filter(|record| {
            record.holder == holder
                || newest(&record.holder).is_some_and(|newest| record.acknowledged < newest)
        });
        let lost = wanted.filter(|record| !found.contains(&(&*record.holder, record.serial)));
        lost.map(|record| record.serial).collect()
    }
}

#[test]
fn what_is_missing_is_told() {
    let ledger = Ledger::default();
    let serials: Vec<u64> = (0..3)
        .map(|_| {
            let serial = ledger.next();
            ledger.acknowledge("a", serial);
            serial
        })
        .collect();
    let name = |index: usize| format!("a-{}", serials[index]);
    let (first, second, third) = (name(0), name(1), name(2));
    assert_eq!(ledger.missing("a", &[&first, &second, &third]), Vec::<u64>::new());
    assert_eq!(ledger.missing("a", &[&first, &second]), [serials[2]]);
    // A clone made before the third was begun need not have it, and one that has the third has all.
    assert_eq!(ledger.missing("b", &[&first, &second]), Vec::<u64>::new());
    assert_eq!(ledger.missing("b", &[&second]), [serials[0]]);
    assert_eq!(ledger.missing("b", &[]), Vec::<u64>::new());
}
