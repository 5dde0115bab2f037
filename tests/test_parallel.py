from xr2text.parallel import worker_map


def test_results_keep_the_order_of_the_items():
    for processes in (0, 1, 2):
        with worker_map(processes) as each:
            assert list(each(abs, range(-40, 0))) == list(range(40, 0, -1))
