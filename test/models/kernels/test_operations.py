# SPDX-License-Identifier: Apache-2.0
from icefall_alp.models.kernels.operations import count, unseen_operations


def test_a_product_is_two_operations_for_each_multiplication():
    before = unseen_operations()
    count(3, 4, 5)
    count(7)
    count(2, 0, 6)
    assert unseen_operations() - before == 2 * 3 * 4 * 5 + 2 * 7
