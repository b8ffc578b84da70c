//! Which tensors are the matrix of an output layer.

/// Why a tensor is not the matrix of an output layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Neither a matrix nor a convolution.
    #[error(
        "it has shape {0:?}; an output layer is a matrix [outputs, width], or a convolution \
         [outputs, width, 1] or [outputs, width, 1, 1]"
    )]
    Rank(Vec<u64>),
    /// A convolution that reads several positions.
    #[error(
        "it is a convolution with the kernel {0:?}: each output mixes several positions, so it is \
         no linear map of one activation; only kernels of size 1 are"
    )]
    Kernel(Vec<u64>),
    /// No outputs or no inputs.
    #[error("it has shape {0:?}, which holds no weights")]
    Empty(Vec<u64>),
}

/// The outputs and the width of the matrix that a tensor of this shape is: [outputs, width], or
/// the weights of a convolution over one position at a time, [outputs, width, 1] or
/// [outputs, width, 1, 1].
pub fn matrix_shape(shape: &[u64]) -> Result<(u64, u64), ShapeError> {
    let (outputs, width, kernel) = match *shape {
        [outputs, width, ref kernel @ ..] if kernel.len() <= 2 => (outputs, width, kernel),
        _ => return Err(ShapeError::Rank(shape.to_vec())),
    };
    if kernel.iter().any(|side| *side != 1) {
        return Err(ShapeError::Kernel(kernel.to_vec()));
    }
    if outputs == 0 || width == 0 {
        return Err(ShapeError::Empty(shape.to_vec()));
    }
    Ok((outputs, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_convolution_over_one_position_is_a_matrix() {
        for shape in [&[10, 32][..], &[10, 32, 1], &[10, 32, 1, 1]] {
            assert_eq!(matrix_shape(shape), Ok((10, 32)), "{shape:?}");
        }
    }

    #[test]
    fn a_convolution_over_several_positions_is_refused_with_the_reason() {
        for shape in [
            &[10, 32, 3][..],
            &[10, 32, 3, 3],
            &[10, 32, 1, 3],
            &[10, 32, 3, 1],
        ] {
            let refused = matrix_shape(shape).unwrap_err();
            assert_eq!(refused, ShapeError::Kernel(shape[2..].to_vec()));
            assert!(
                refused
                    .to_string()
                    .contains("no linear map of one activation")
            );
        }
    }

    #[test]
    fn other_ranks_and_empty_matrices_are_refused() {
        for shape in [&[][..], &[10], &[10, 32, 1, 1, 1]] {
            assert_eq!(matrix_shape(shape), Err(ShapeError::Rank(shape.to_vec())));
        }
        for shape in [&[0, 32][..], &[10, 0], &[0, 0, 1, 1]] {
            assert_eq!(matrix_shape(shape), Err(ShapeError::Empty(shape.to_vec())));
        }
    }
}
