//! The invariants of the wire by their ids; their names and meanings stand in the table of
//! anomalies.

macro_rules! invariants {
    ($($id:ident $name:literal)*) => {
        /// An invariant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum Invariant {
            $(
                #[doc = $name]
                $id,
            )*
        }

        impl Invariant {
            /// Every one, in the order of their ids.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$id),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Its name in the table of anomalies.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$id => $name,)*
                }
            }
        }
    };
}

invariants! {
    L1 "L1-offsets-overlap"
    L2 "L2-batch-corrupt"
    L3 "L3-sequence-broken"
    L4 "L4-epoch-decreases"
    L5 "L5-transaction-unclosed"
    L6 "L6-stable-offset-wrong"
    L7 "L7-aborted-data-exposed"
    L8 "L8-leader-epoch-decreases"
    L9 "L9-record-changed"
    P1 "P1-ack-not-in-log"
    P2 "P2-duplicate-appended"
    P3 "P3-zombie-accepted"
    P4 "P4-producer-id-reused"
    P5 "P5-outcome-not-honoured"
    P6 "P6-marker-decides-other"
    P7 "P7-timeout-not-enforced"
    P8 "P8-offsets-not-atomic"
    G1 "G1-partition-shared"
    G2 "G2-stale-commit-accepted"
    G3 "G3-offset-lost"
    G4 "G4-not-exactly-once"
    W1 "W1-response-unpaired"
    W2 "W2-body-malformed"
    W3 "W3-error-unknown"
    W4 "W4-version-unserved"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::anomaly::find_anomaly;

    #[test]
    fn every_invariant_has_a_row_in_the_table_of_anomalies() {
        for invariant in Invariant::ALL {
            assert!(find_anomaly(invariant.name()).is_some(), "{}", invariant.name());
        }
    }
}
