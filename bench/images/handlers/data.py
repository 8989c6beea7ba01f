"""A handler that needs numpy and pandas, as data people's functions do."""

import numpy
import pandas


def handler(event, context):
    frame = pandas.DataFrame({"x": numpy.arange(100), "y": numpy.arange(100) ** 2})
    return {"sum": int(frame["y"].sum()), "pandas": pandas.__version__}
