//! Fields off the front of some bytes, read as scapy's `Packet.do_dissect` reads them.

/// The bytes end inside a field: scapy's dissector raises, and what it was given becomes `Raw`.
pub(super) struct Cut;

/// What is left of a layer's bytes.
#[derive(Clone, Copy)]
pub(super) struct Fields<'p>(pub(super) &'p [u8]);

impl<'p> Fields<'p> {
    /// The next `N` bytes. `None` if the bytes have ended before: then the field has its default.
    pub(super) fn take<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Cut> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (field, rest) = self.0.split_first_chunk().ok_or(Cut)?;
        self.0 = rest;
        Ok(Some(*field))
    }

    pub(super) fn byte(&mut self) -> Result<Option<u8>, Cut> {
        Ok(self.take()?.map(|[byte]| byte))
    }

    pub(super) fn short(&mut self) -> Result<Option<u16>, Cut> {
        Ok(self.take()?.map(u16::from_be_bytes))
    }

    pub(super) fn int(&mut self) -> Result<Option<u32>, Cut> {
        Ok(self.take()?.map(u32::from_be_bytes))
    }

    /// Passes fields of these sizes, each of them whole or not there at all.
    pub(super) fn skip(&mut self, sizes: &[usize]) -> Result<(), Cut> {
        for &size in sizes.iter().filter(|size| **size > 0) {
            if !self.0.is_empty() {
                self.0 = self.0.get(size..).ok_or(Cut)?;
            }
        }
        Ok(())
    }

    /// Cuts a list off that is `length` bytes long, as Python slices it, and passes it.
    pub(super) fn slice(&mut self, length: i64) -> &'p [u8] {
        let (list, rest) = super::python_split(self.0, length);
        self.0 = rest;
        list
    }
}
