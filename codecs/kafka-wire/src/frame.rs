//! A stream of bytes into length-prefixed frames; hostile lengths are observations.
//!
//! The length before a frame is a signed 32-bit number. A negative or absurd one ends the stream's
//! framing for good: nothing after it can be trusted to begin where a frame begins.

/// Largest frame taken unless the caller says otherwise: Kafka's own `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// What the start of a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// A whole frame: its body is `buffer[4..end]`.
    Frame {
        /// Where the frame ends in the buffer.
        end: usize,
    },
    /// Not a whole frame yet. `needed` is the whole frame's length with its prefix, where the
    /// prefix is there; it is within the limit, but nothing should be allocated on its word alone.
    Incomplete {
        /// Length of the frame with its prefix, 4 while the prefix is not whole.
        needed: usize,
    },
    /// A length no frame can have: negative, or above the limit.
    BadLength(i32),
}

/// Looks at the start of `buffer` for one frame.
#[must_use]
pub fn scan(buffer: &[u8], frame_bytes_max: usize) -> Scan {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        return Scan::Incomplete { needed: 4 };
    };
    let length = i32::from_be_bytes(*prefix);
    match usize::try_from(length) {
        Ok(body) if body <= frame_bytes_max => {
            let end = 4 + body;
            if buffer.len() >= end { Scan::Frame { end } } else { Scan::Incomplete { needed: end } }
        }
        _ => Scan::BadLength(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_at_their_length() {
        assert_eq!(scan(&[], 100), Scan::Incomplete { needed: 4 });
        assert_eq!(scan(&[0, 0, 0], 100), Scan::Incomplete { needed: 4 });
        assert_eq!(scan(&[0, 0, 0, 2, 9], 100), Scan::Incomplete { needed: 6 });
        assert_eq!(scan(&[0, 0, 0, 2, 9, 8, 7], 100), Scan::Frame { end: 6 });
        assert_eq!(scan(&[0, 0, 0, 0, 1], 100), Scan::Frame { end: 4 });
    }

    #[test]
    fn absurd_lengths_are_observations() {
        assert_eq!(scan(&[0xff; 4], 100), Scan::BadLength(-1));
        assert_eq!(scan(&[0x80, 0, 0, 0], 100), Scan::BadLength(i32::MIN));
        assert_eq!(scan(&[0, 0, 0, 101], 100), Scan::BadLength(101));
        assert_eq!(scan(&[0x7f, 0xff, 0xff, 0xff], 100), Scan::BadLength(i32::MAX));
    }
}
