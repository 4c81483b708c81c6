//! Numbers of the protocol that must not be mixed up, one type each.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

id!(
    /// `correlation_id`: pairs a response with its request on one connection.
    CorrelationId(i32)
);
id!(
    /// `producer_id`: who writes, as InitProducerId answered. −1 is none.
    ProducerId(i64)
);
id!(
    /// `producer_epoch`: which incarnation of a producer id. −1 is none.
    ProducerEpoch(i16)
);
id!(
    /// `sequence`: the number of a record of one producer id and epoch in one partition.
    Sequence(i32)
);
id!(
    /// `leader_epoch` of a partition.
    LeaderEpoch(i32)
);
id!(
    /// `node_id` of a broker.
    NodeId(i32)
);
id!(
    /// `offset` of a record in its partition.
    Offset(i64)
);
id!(
    /// `generation_id` of a classic group.
    GenerationId(i32)
);

impl ProducerId {
    /// No producer id.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// No producer epoch.
    pub const NONE: Self = Self(-1);

    /// The next epoch, or none where the last (32767) is reached.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl Sequence {
    /// No sequence.
    pub const NONE: Self = Self(-1);

    /// The sequence `records` later; wraps from 2³¹−1 to 0 (KIP-98).
    #[must_use]
    pub fn advance(self, records: u32) -> Self {
        Self(((i64::from(self.0) + i64::from(records)) & 0x7fff_ffff) as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(Sequence(i32::MAX).advance(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).advance(3), Sequence(1));
        assert_eq!(Sequence(41).advance(1), Sequence(42));
    }
}
