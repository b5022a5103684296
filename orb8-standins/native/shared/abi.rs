//! What the callers of C functions pass by address. It is read and written on their word, as the real
//! libraries do; only null is noticed.

use std::ffi::{CStr, c_char, c_void};

/// Where the caller wants an answer.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    /// Writes the answer; `None` where there is no place for it.
    pub(crate) fn put(self, value: T) -> Option<()> {
        self.put_at(0, value)
    }

    /// Writes into an array that the caller says is long enough.
    pub(crate) fn put_at(self, index: usize, value: T) -> Option<()> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the caller of the C function vouches for the place and for its length.
        unsafe { self.0.add(index).write_unaligned(value) };
        Some(())
    }

    /// Reads what the caller put there before.
    pub(crate) fn get(self) -> Option<T>
    where
        T: Copy,
    {
        In(self.0.cast_const()).get()
    }

    /// Takes it as a place for another type, of which the caller says that it is one.
    pub(crate) fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// Whether the caller wants no answer.
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }
}

impl Out<c_char> {
    /// Writes text and the zero that ends it, cut to the place's length.
    pub(crate) fn put_text(self, text: &str, length: usize) -> Option<()> {
        let room = length.checked_sub(1)?;
        let text = &text.as_bytes()[..text.len().min(room)];
        for (index, byte) in text.iter().chain([&0]).enumerate() {
            self.put_at(index, c_char::from_ne_bytes([*byte]))?;
        }
        Some(())
    }
}

/// What the caller passes by its address.
#[repr(transparent)]
pub(crate) struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T> In<T> {
    /// Reads it; `None` where there is nothing.
    pub(crate) fn get(self) -> Option<T>
    where
        T: Copy,
    {
        self.at(0)
    }

    /// Reads from an array that the caller says is long enough.
    pub(crate) fn at(self, index: usize) -> Option<T>
    where
        T: Copy,
    {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the caller of the C function vouches for what is there and for its length.
        Some(unsafe { self.0.add(index).read_unaligned() })
    }

    /// Returns the address itself.
    pub(crate) fn address(self) -> usize {
        self.0 as usize
    }
}

impl In<c_char> {
    /// Reads text up to the zero that ends it.
    pub(crate) fn text(self) -> Option<String> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the caller of the C function vouches for a text that a zero ends.
        Some(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}

impl In<c_void> {
    /// Takes it as what it says to be.
    pub(crate) fn cast<T>(self) -> In<T> {
        In(self.0.cast())
    }
}
