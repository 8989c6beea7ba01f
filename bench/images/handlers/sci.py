"""A handler that needs numpy, pandas and scikit-learn: as heavy as starts get."""

import numpy
import pandas
import sklearn
from sklearn.linear_model import LinearRegression


def handler(event, context):
    frame = pandas.DataFrame({"x": numpy.arange(100.0), "y": numpy.arange(100.0) * 3})
    model = LinearRegression().fit(frame[["x"]].to_numpy(), frame["y"])
    return {"slope": round(float(model.coef_[0]), 6), "sklearn": sklearn.__version__}
